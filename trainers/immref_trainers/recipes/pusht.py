"""Recipes on PushT: Diffusion Policy's setting (Section 4.5), and one that a CPU trains in minutes."""

from immref import KNN, LinearAssignment, Vanilla
from immref_trainers.config import Evaluation, Objective, Optimizer, Run, Sampler
from immref_trainers.data.settings import PushT
from immref_trainers.networks.settings import PolicyUNet

PAIRINGS = (
    Vanilla(),
    KNN(k=2),  #            the paper's k
    LinearAssignment(),
)

STEPS_AN_EPOCH = 93  # some 23,700 windows of 202 of the 206 original demonstrations, in batches of 256


def policy() -> Run:
    """Diffusion Policy on the original demonstrations: 66 M parameters, 3,000 epochs, 50 roll-outs at every fiftieth."""
    steps = 3_000 * STEPS_AN_EPOCH
    return Run(
        recipe="pusht",
        data=PushT(train_data_dir=""),  # to be given
        network=PolicyUNet(),
        objective=Objective("ddpm", "epsilon", num_train_timesteps=100, beta_schedule="squaredcos_cap_v2"),
        sampler=Sampler("ddpm", clip_sample=True),
        optimizer=Optimizer(
            1e-4, lr_scheduler="cosine", lr_warmup_steps=500, weight_decay=1e-6, betas=(0.95, 0.999), ema_decay=0.9999, ema_power=0.75
        ),
        evaluation=Evaluation(
            at_steps=tuple(range(50 * STEPS_AN_EPOCH, steps + 1, 50 * STEPS_AN_EPOCH)),
            sampler_steps=(100,),
            num_samples=50,
            temperatures=(),
        ),
        train_batch_size=256,
        max_train_steps=steps,
    )


def small() -> Run:
    """A policy of 750,000 parameters on 200 planned demonstrations that start near the goal."""
    return Run(
        recipe="pusht-small",
        data=PushT(starts="near"),
        network=PolicyUNet(down_dims=(64, 128), kernel_size=3, step_embed_dim=64),
        objective=Objective("ddpm", "epsilon", num_train_timesteps=100, beta_schedule="squaredcos_cap_v2"),
        sampler=Sampler("ddim", clip_sample=True),
        optimizer=Optimizer(
            1e-3, lr_scheduler="cosine", lr_warmup_steps=100, weight_decay=1e-6, betas=(0.95, 0.999), ema_decay=0.999, ema_power=0.75
        ),
        evaluation=Evaluation(at_steps=(1_000, 2_000, 3_000), sampler_steps=(10,), num_samples=200, temperatures=()),
        train_batch_size=256,
        max_train_steps=3_000,
    )
