"""From a trained network to samples: one file per sampler, and the noise that it starts from."""

import numpy as np
import torch
from torch import Tensor

from immref_trainers.config import Run
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers import adaptive, ddim, ddpm, euler, multistep


def guided(predict: Predictor, scale: float, unasked: int | None) -> Predictor:
    """Classifier-free guidance: from what is predicted for the label `unasked`, `scale` times as far as the label asks for."""
    if scale == 1:
        return predict

    def beyond(x_t: Tensor, t_B: Tensor, labels_B: Tensor | None) -> Tensor:
        assert labels_B is not None
        assert unasked is not None
        both = torch.cat([torch.full_like(labels_B, unasked), labels_B])
        without, asked = predict(x_t.repeat(2, *(1,) * (x_t.ndim - 1)), t_B.repeat(2), both).chunk(2)
        return without + scale * (asked - without)

    return beyond


def sample(
    run: Run,
    predict: Predictor,
    noise: Tensor,
    steps: int,
    largest: float,
    labels: Tensor | None = None,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Samples (M, ...) on the host by the sampler of `run`, the image scaling undone.

    Parameters
    ----------
    steps : of the sampler; 0 is the adaptive solver of flow matching
    largest : the data's largest absolute value
    labels : of the samples (M,), where the network is told any
    generator : of noise that is added on the way; multistep and ddpm need it, the others add none
    """
    if run.sampler.method == "multistep":
        assert generator is not None
        return multistep.sample(predict, noise, steps, run, largest, labels, generator)
    if run.sampler.method == "ddpm":
        assert generator is not None
        return ddpm.sample(predict, noise, steps, run, largest, labels, generator)
    if run.sampler.method == "ddim":
        return ddim.sample(predict, noise, steps, run, largest, labels)
    if steps == 0:
        return adaptive.sample(predict, noise, run.pairing.scale, labels)
    return euler.sample(predict, noise, steps, run.pairing.scale, labels)
