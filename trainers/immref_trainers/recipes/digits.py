"""Recipes on scikit-learn's 1,797 handwritten digits: real data that is already on the disk."""

from dataclasses import replace

from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref_trainers.config import Consistency, Evaluation, Objective, Optimizer, Run, Sampler
from immref_trainers.data.settings import CaptionedDigits
from immref_trainers.networks.settings import TextUNet, UNet

PAIRINGS = (
    Vanilla(),  #           the paper reports nothing on digits
    KNN(k=4),  #            its best k for flow matching on CIFAR-10, where DDIM's is 8 (Table 4)
    LinearAssignment(),  #  Section 3.3.1
    ImageScaling(2.0),  #   Section 3.3.3
)

PROMPT_PAIRINGS = (
    Vanilla(),
    KNN(k=64),  #           the paper's k for Stable Diffusion (Table 4), on latents of 4,096 numbers; here they have 256
    LinearAssignment(),
    LinearAssignment(within="label"),
)

CLASS_PAIRINGS = (
    Vanilla(),
    KNN(k=4),
    LinearAssignment(),  #                across classes, as the paper pairs on ImageNet
    LinearAssignment(within="label"),  #  an extension: the noise cannot tell the class
)


def flow() -> Run:
    """Flow matching with a 160k-parameter UNet."""
    return Run(recipe="digits-flow")


def ddim() -> Run:
    """DDPM training on the noise, sampled by DDIM; the network and the budget of `flow`.

    The noise levels are the paper's on CIFAR-10 (linear betas, T = 1000). Unlike there the steps trail and predicted images
    are clipped. On images this small KNN and linear assignment help at 4 steps and hurt at 20, from N(0, I).
    """
    return Run(
        recipe="digits-ddim",
        objective=Objective("ddpm", prediction="epsilon"),
        sampler=Sampler("ddim", timestep_spacing="trailing", clip_sample=True),
        evaluation=Evaluation(sampler_steps=(4, 20)),
    )


def consistency() -> Run:
    """Improved consistency training, one network call per sample or two; a 0.63M-parameter UNet.

    The paper's baseline is plain consistency training, which learns little in minutes (--objective.variant ct).
    """
    return Run(
        recipe="digits-consistency",
        network=UNet((32, 64)),
        objective=Consistency(),
        optimizer=Optimizer(ema_decay=0.99),
        sampler=Sampler("multistep"),
        evaluation=Evaluation(at_steps=(200, 400, 800), sampler_steps=(1, 2)),
        max_train_steps=800,
    )


def flow_classes() -> Run:
    """`flow` with a network that is told the digit, so that a digit can be asked for."""
    return replace(flow(), recipe="digits-flow-classes", network=UNet(class_conditional=True))


def stable_diffusion() -> Run:
    """Stable Diffusion in small: captioned digits, trained in a VAE's latents and asked for in words, sampled with guidance."""
    return Run(
        recipe="digits-sd",
        data=CaptionedDigits(),
        network=TextUNet(prompt="a photo of the digit {}", caption_dropout=0.1),
        objective=Objective("ddpm", "epsilon", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        optimizer=Optimizer(learning_rate=2e-3, lr_scheduler="cosine", weight_decay=0.01),
        sampler=Sampler("ddim", timestep_spacing="trailing", guidance_scale=2.0),
        evaluation=Evaluation(at_steps=(100, 200, 400), sampler_steps=(15,), num_samples=400, temperatures=(0.93,)),
        train_batch_size=64,
        max_train_steps=400,
    )
