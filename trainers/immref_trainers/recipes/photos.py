"""Recipes on 16×16 patches of the two photographs that scikit-learn ships: image-like data of 768 numbers, no download."""

from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref_trainers.config import Evaluation, Objective, Optimizer, Run, Sampler
from immref_trainers.data.settings import Photos

PAIRINGS = (
    Vanilla(),  #           the paper reports nothing on such patches
    KNN(k=8),  #            its best k for DDIM on CIFAR-10, at 3,072 numbers; 4 for flow matching (Table 4)
    LinearAssignment(),  #  Section 3.3.1
    ImageScaling(2.0),  #   Section 3.3.3
)
STEPS = 600


def flow() -> Run:
    """Flow matching with a 160k-parameter UNet."""
    return Run(
        recipe="photos-flow",
        data=Photos(),
        optimizer=Optimizer(learning_rate=2e-3),
        evaluation=Evaluation(at_steps=(200, 400, STEPS), sampler_steps=(4, 16), num_samples=600, draws=2),
        train_batch_size=64,
        max_train_steps=STEPS,
    )


def ddim() -> Run:
    """DDPM training on the noise, sampled by DDIM with trailing steps and clipped images; network and budget of `flow`."""
    return Run(
        recipe="photos-ddim",
        data=Photos(),
        objective=Objective("ddpm", prediction="epsilon"),
        optimizer=Optimizer(learning_rate=2e-3),
        sampler=Sampler("ddim", timestep_spacing="trailing", clip_sample=True),
        evaluation=Evaluation(at_steps=(200, 400, STEPS), sampler_steps=(4, 20), num_samples=600, draws=2),
        train_batch_size=64,
        max_train_steps=STEPS,
    )
