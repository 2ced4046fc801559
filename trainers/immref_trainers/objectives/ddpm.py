"""DDPM: predict n, x or v = a n - b x at x_t = a x + b n, (a, b) = (sqrt(alpha-bar_t), sqrt(1 - alpha-bar_t)), t uniform on 0 … T - 1."""

import torch
from torch import Tensor

from immref import schedules
from immref_trainers.config import Objective
from immref_trainers.objectives.regression import Regression


def regression(settings: Objective, like: Tensor) -> Regression:
    """The objective of `settings`, its tables turned once into tensors in the dtype and on the device of `like`."""
    a_T, b_T = (torch.from_numpy(table).to(like.dtype).to(like.device) for table in schedules.coefficients(settings.alpha_bar()))
    return Regression(
        settings.prediction,
        draw=lambda generator, count: generator.integers(settings.num_train_timesteps, size=count),
        coefficients=lambda t_B: (a_T[t_B], b_T[t_B]),
        time_units=1,
    )
