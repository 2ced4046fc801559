"""DDPM's ancestral sampler: from each visited training step to the next with the noise that the process itself would add."""

import numpy as np
import torch
from torch import Tensor

from immref.diffusion import recover
from immref_trainers.config import Run
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers.chunks import chunks
from immref_trainers.samplers.ddim import path


@torch.inference_mode()
def sample(
    predict: Predictor, noise: Tensor, steps: int, run: Run, largest: float, labels: Tensor | None, generator: np.random.Generator
) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone; parameters as `ddim.sample` has them.

    The variance is that of the process given the predicted image ("fixed_small"); `generator` draws it.
    """
    assert run.objective.method == "ddpm"
    t_S, coefficients = path(run, steps)
    scale, samples = run.pairing.scale, []
    for x_t, labels_B in chunks(noise, labels):
        for t, (a, b), (next_a, next_b) in zip(t_S.tolist(), coefficients[:-1], coefficients[1:], strict=True):
            output = predict(x_t, torch.full((len(x_t),), t, device=x_t.device), labels_B)
            x, _ = recover(run.objective.prediction, output, x_t, a, b)
            if run.sampler.clip_sample:
                x = x.clamp(-scale * largest, scale * largest)
            alpha = (a / next_a) ** 2
            x_t = next_a * (1 - alpha) / b**2 * x + alpha**0.5 * next_b**2 / b**2 * x_t
            spread = next_b / b * (1 - alpha) ** 0.5
            if spread:
                x_t = x_t + spread * torch.from_numpy(generator.standard_normal(tuple(x_t.shape), dtype=np.float32)).to(x_t)
        samples.append((x_t / scale).cpu())
    return torch.cat(samples)
