"""Flow matching: predict the velocity x - n at x_t = t x + (1 - t) n, t uniform on [0, 1]."""

from collections.abc import Callable

import torch
from torch import Tensor

from immref import Paired, schedules
from immref.diffusion import corrupt, velocity

TIME_UNITS = 1000.0  # diffusers' time embedding expects t in [0, 1000]


def loss(predict: Callable[[Tensor, Tensor], Tensor], paired: Paired, t_B: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity; the noise that corrupts is the noise in the target."""
    x_t = corrupt(paired.x, paired.noise, *schedules.flow(t_B))
    return torch.nn.functional.mse_loss(predict(x_t, t_B), velocity(paired.x, paired.noise))


def predictor(network: torch.nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The network as a function (x_t, t) → velocity."""
    return lambda x_t, t_B: network(x_t, t_B * TIME_UNITS).sample
