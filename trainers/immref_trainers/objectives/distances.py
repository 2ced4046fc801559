"""How far a consistency model's outputs at two noise levels are apart, image by image."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from immref_trainers.config import Consistency

Distance = Callable[[Tensor, Tensor], Tensor]  # two batches (B, ...) → (B,)

HUBER = 0.00054  # c / sqrt(D) (Song & Dhariwal 2023)


def build(settings: Consistency, scale: float, like: Tensor) -> Distance:
    """The distance that `settings` choose; lpips sees images with the scaling undone, on the device of `like`."""
    if settings.distance == "lpips":
        from immref_trainers.objectives.lpips import load

        network = load(settings.lpips_weights).to(like.device)
        return lambda first, second: network(first / scale, second / scale)
    return {"pseudo_huber": pseudo_huber, "l2": mean_square}[settings.distance]


def pseudo_huber(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(|d|² + c²) - c."""
    difference = (first - second).flatten(1)
    c = HUBER * math.sqrt(difference.shape[1])
    return (difference.square().sum(dim=1) + c**2).sqrt() - c


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    """|d|² / D."""
    return torch.nn.functional.mse_loss(first, second, reduction="none").flatten(1).mean(dim=1)
