"""A consistency model's sampler: to the image at once; then some noise again, and to the image again."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref import schedules
from immref_trainers.config import LADDER, Consistency, Run
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers.chunks import chunks

Array = np.ndarray[Any, Any]


def sigmas(run: Run) -> Array:
    """The noise levels (S,) of the run's sampler, falling from the largest."""
    assert isinstance(run.objective, Consistency)
    sigma_N: Array = schedules.karras_sigmas(LADDER, run.objective.sigma_min, run.objective.sigma_max)[::-1]
    return sigma_N[list(run.sampler.levels)]


@torch.inference_mode()
def sample(
    predict: Predictor, noise: Tensor, steps: int, run: Run, largest: float, labels: Tensor | None, generator: np.random.Generator
) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone.

    Parameters
    ----------
    predict : (x_sigma, sigma_B, labels_B) → image
    noise : starting noise (M, ...) of unit variance, on the network's device
    steps : network evaluations per sample, at the first levels of the run's sampler
    run : whose objective, sampler and `Pairing.scale` these samples are
    largest : of the data's absolute values before scaling; with `clip_sample` an image lies within scale times it
    labels : of the samples (M,), where the network is told any
    generator : of the noise that is added between two steps
    """
    assert isinstance(run.objective, Consistency)
    levels, scale, least = sigmas(run)[:steps].tolist(), run.pairing.scale, run.objective.sigma_min
    samples = []
    for n, labels_B in chunks(noise, labels):
        x, spread = torch.zeros_like(n), levels[0]
        for number, sigma in enumerate(levels):
            if number:
                n = torch.from_numpy(generator.standard_normal(tuple(n.shape), dtype=np.float32)).to(n)
                spread = (sigma**2 - least**2) ** 0.5  # an image of the network has sigma_min already
            x = predict(x + spread * n, torch.full((len(n),), sigma, dtype=n.dtype, device=n.device), labels_B)
            if run.sampler.clip_sample:
                x = x.clamp(-scale * largest, scale * largest)
        samples.append((x / scale).cpu())
    return torch.cat(samples)
