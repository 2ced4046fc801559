"""The learning rate of a step: a pure function, so that there is no schedule to save."""

import math

from immref_trainers.config import Optimizer


def at(settings: Optimizer, step: int, total: int) -> float:
    """The rate of training step `step` (from 0) of `total`: a linear warm-up, then constant, linear or cosine decay to 0."""
    warm_up = settings.lr_warmup_steps
    if step < warm_up:
        return settings.learning_rate * step / warm_up
    part = (step - warm_up) / max(total - warm_up, 1)
    left = {"constant": 1.0, "linear": 1.0 - part, "cosine": 0.5 * (1.0 + math.cos(math.pi * part))}[settings.lr_scheduler]
    return settings.learning_rate * max(left, 0.0)
