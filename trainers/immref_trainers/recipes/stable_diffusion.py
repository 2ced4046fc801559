"""The paper's recipes on Stable Diffusion (Section 4.3): give a pipeline with --pipeline, images with --data.train-data-dir, and GPUs.

2,048 images a step are 128 on each of four GPUs, four times; the paper trains on ImageNet for 20,000 steps from scratch and 5,000 of
fine-tuning from Stable Diffusion v1.4. Unlike the official code some prompts are left out in training, as guidance needs it.
"""

from dataclasses import replace

from immref import KNN, LinearAssignment, Vanilla
from immref_trainers.config import Evaluation, Objective, Optimizer, Run, Sampler
from immref_trainers.data.settings import Directory
from immref_trainers.networks.settings import TextUNet

PAIRINGS = (
    Vanilla(),  #           from scratch FID not reported in numbers (Figure 5); CLIPScore 28.55
    KNN(k=64),  #           its k for Stable Diffusion (Table 4); CLIPScore 28.55
    LinearAssignment(),  #  across classes, Section 3.3.1; FID not reported
    LinearAssignment(within="label"),  #  an extension: the noise cannot tell the class
)
CAPTION_PAIRINGS = PAIRINGS[:3]
STEPS, FINE_TUNING = 20_000, 5_000


def scratch() -> Run:
    """Class-conditional from weights drawn anew, on the frozen VAE and text encoder of the pipeline.

    ImageNet's folders are numbers: --data.class-names LOC_synset_mapping.txt tells what prompts call them.
    """
    return Run(
        recipe="imagenet-sd-scratch",
        data=Directory(resolution=256, random_flip=True),
        network=TextUNet(caption_dropout=0.1, gradient_checkpointing=True),
        objective=Objective("ddpm", "epsilon", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        optimizer=Optimizer(learning_rate=1e-4, weight_decay=1e-2, ema_decay=0.9999),
        sampler=Sampler("ddim", guidance_scale=7.5),
        evaluation=Evaluation(tuple(range(5_000, STEPS + 1, 5_000)), (20,), 10_000, temperatures=()),
        train_batch_size=128,
        gradient_accumulation_steps=4,
        mixed_precision="fp16",
        max_train_steps=STEPS,
    )


def finetune() -> Run:
    """The same from the pipeline's own weights: a smaller rate, a quarter of the batch, fewer steps."""
    return replace(
        scratch(),
        recipe="imagenet-sd-finetune",
        network=TextUNet(weights="pretrained", caption_dropout=0.1, gradient_checkpointing=True),
        optimizer=Optimizer(learning_rate=1e-5, weight_decay=1e-2, ema_decay=0.9999),
        evaluation=Evaluation(tuple(range(1_000, FINE_TUNING + 1, 1_000)), (20,), 10_000, temperatures=()),
        gradient_accumulation_steps=1,
        max_train_steps=FINE_TUNING,
    )


def captions() -> Run:
    """Free prompts: from scratch, told each image's own caption, as in COCO."""
    return replace(scratch(), recipe="coco-sd", network=TextUNet(prompt=None, caption_dropout=0.1, gradient_checkpointing=True))
