"""Recipes: functions that return a Run, by name. A comparison is a recipe under several pairings."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from immref import Pairing
from immref._checks import nearest_name
from immref_trainers.config import Run
from immref_trainers.recipes import cifar10, digits, photos, pusht, stable_diffusion


@dataclass(frozen=True)
class Recipe:
    """A run, and the pairings that `immref compare` sets side by side."""

    run: Callable[[], Run]
    pairings: tuple[Pairing, ...]
    summary: str


RECIPES = {
    "digits-flow": Recipe(digits.flow, digits.PAIRINGS, "flow matching on scikit-learn's digits, 8×8; minutes on a CPU"),
    "digits-ddim": Recipe(digits.ddim, digits.PAIRINGS, "DDPM training and DDIM sampling on the same digits with the same network"),
    "cifar10-ddim": Recipe(cifar10.ddim, cifar10.DDIM_PAIRINGS, "the paper's DDIM on CIFAR-10, from --data.train-data-dir; a GPU"),
    "cifar10-flow": Recipe(cifar10.flow, cifar10.FLOW_PAIRINGS, "the paper's flow matching on CIFAR-10, likewise"),
    "photos-flow": Recipe(photos.flow, photos.PAIRINGS, "flow matching on 16×16 patches of two photographs; a few minutes a run"),
    "photos-ddim": Recipe(photos.ddim, photos.PAIRINGS, "DDPM training and DDIM sampling on the same patches with the same network"),
    "digits-consistency": Recipe(
        digits.consistency, digits.PAIRINGS, "improved consistency training on the digits: one network call a sample"
    ),
    "cifar10-consistency": Recipe(
        cifar10.consistency, cifar10.CONSISTENCY_PAIRINGS, "the paper's consistency training on CIFAR-10, likewise"
    ),
    "digits-sd": Recipe(
        digits.stable_diffusion, digits.PROMPT_PAIRINGS, "Stable Diffusion in small: digits from prompts, in latents; a minute to prepare"
    ),
    "imagenet-sd-scratch": Recipe(
        stable_diffusion.scratch, stable_diffusion.PAIRINGS, "the paper's Stable Diffusion on class names, from --pipeline; GPUs"
    ),
    "imagenet-sd-finetune": Recipe(
        stable_diffusion.finetune, stable_diffusion.PAIRINGS, "the same from the pipeline's own weights, such as v1.4's"
    ),
    "coco-sd": Recipe(stable_diffusion.captions, stable_diffusion.CAPTION_PAIRINGS, "the same from scratch, told each image's own caption"),
    "pusht-small": Recipe(pusht.small, pusht.PAIRINGS, "a robot's policy on planned demonstrations of PushT; minutes on a CPU a run"),
    "pusht": Recipe(pusht.policy, pusht.PAIRINGS, "the paper's Diffusion Policy on PushT, from --data.train-data-dir; a GPU"),
    "digits-flow-classes": Recipe(digits.flow_classes, digits.CLASS_PAIRINGS, "digits-flow, class-conditional: can a digit be asked for?"),
}


def find(name: str) -> Recipe:
    """The recipe called `name`."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}{nearest_name(name, RECIPES)}")
    return RECIPES[name]


def plan(run: Run, pairings: tuple[Pairing, ...], seeds: int) -> list[Run]:
    """The runs of a comparison: every seed under every pairing, differing in nothing else."""
    if Pairing() not in pairings:
        raise ValueError("pairings must include vanilla, which everything is compared with")
    if len(set(pairings)) != len(pairings):
        raise ValueError(f"pairings must differ, got {', '.join(map(str, pairings))}")
    if seeds < 1:
        raise ValueError(f"seeds must be ≥ 1, got {seeds}")
    return [dataclasses.replace(run, pairing=pairing, seed=run.seed + seed) for seed in range(seeds) for pairing in pairings]
