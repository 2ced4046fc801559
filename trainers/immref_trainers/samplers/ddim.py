"""DDIM without added noise (eta = 0): from each visited training step to the next, and from the last to the image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref import schedules
from immref.diffusion import corrupt, recover
from immref_trainers.config import Objective, Run
from immref_trainers.networks.settings import TextUNet
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers.chunks import chunks

Revise = Callable[[Tensor, float, float], Tensor]  # (x_t, a, b) → x_t
Array = np.ndarray[Any, Any]


def path(run: Run, steps: int) -> tuple[Array, list[tuple[float, float]]]:
    """The training steps (S,) that are visited, falling, and (a, b) at each and at the image, (1, 0)."""
    assert isinstance(run.objective, Objective)
    t_S = schedules.ddim_steps(run.objective.num_train_timesteps, steps, run.sampler.timestep_spacing, run.steps_offset)
    a, b = schedules.coefficients(np.append(run.objective.alpha_bar()[t_S], 1.0))
    return t_S, list(zip(a.tolist(), b.tolist(), strict=True))


@torch.inference_mode()
def sample(
    predict: Predictor,
    noise: Tensor,
    steps: int,
    run: Run,
    largest: float,
    labels: Tensor | None = None,
    revise: Revise | None = None,
) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone.

    Parameters
    ----------
    predict : (x_t, t_B, labels_B) → prediction, of the kind that `run.objective` says
    noise : starting noise (M, ...), on the network's device
    steps : network evaluations per sample
    run : whose objective, sampler and `Pairing.scale` these samples are
    largest : of the data's absolute values before scaling; with `clip_sample` a predicted image lies within scale times it
    labels : of the samples (M,), where the network is told any
    revise : what is made of x_t = a x + b n after every step, for samples few enough to be drawn at once; the last has a = 1, b = 0
    """
    assert isinstance(run.objective, Objective)
    t_S, coefficients = path(run, steps)
    scale, prediction = run.pairing.scale, run.objective.prediction
    at_once = run.train_batch_size if isinstance(run.network, TextUNet) else None  # what fits in training fits here
    samples = []
    for x_t, labels_B in chunks(noise, labels, at_once):
        for t, here, there in zip(t_S.tolist(), coefficients[:-1], coefficients[1:], strict=True):
            output = predict(x_t, torch.full((len(x_t),), t, device=x_t.device), labels_B)
            x, n = recover(prediction, output, x_t, *here)
            if run.sampler.clip_sample:
                x = x.clamp(-scale * largest, scale * largest)
            x_t = corrupt(x, n, *there)
            if revise is not None:
                x_t = revise(x_t, *there)
        samples.append((x_t / scale).cpu())
    return torch.cat(samples)
