"""Euler steps along the learned velocity, from noise (t = 0) to data (t = 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from immref import schedules


@torch.inference_mode()
def sample(predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int, scale: float, chunk: int = 500) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone.

    Parameters
    ----------
    predict : (x_t, t_B) → velocity
    noise : starting noise (M, ...), on the network's device
    steps : network evaluations per sample
    scale : the run's `Pairing.scale`
    """
    times = schedules.euler_times(steps).tolist()
    samples = []
    for x in noise.split(chunk):
        for t, end in zip(times[:-1], times[1:], strict=True):
            x = x + (end - t) * predict(x, torch.full((len(x),), t, device=x.device))
        samples.append((x / scale).cpu())
    return torch.cat(samples)
