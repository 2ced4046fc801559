"""Euler steps along the learned velocity, from noise (t = 0) to data (t = 1)."""

import torch
from torch import Tensor

from immref import schedules
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers.chunks import chunks


@torch.inference_mode()
def sample(predict: Predictor, noise: Tensor, steps: int, scale: float, labels: Tensor | None = None) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone.

    Parameters
    ----------
    predict : (x_t, t_B, labels_B) → velocity
    noise : starting noise (M, ...), on the network's device
    steps : network evaluations per sample
    scale : the run's `Pairing.scale`
    labels : of the samples (M,), where the network is told any
    """
    times = schedules.euler_times(steps).tolist()
    samples = []
    for x, labels_B in chunks(noise, labels):
        for t, end in zip(times[:-1], times[1:], strict=True):
            x = x + (end - t) * predict(x, torch.full((len(x),), t, device=x.device), labels_B)
        samples.append((x / scale).cpu())
    return torch.cat(samples)
