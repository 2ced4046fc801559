"""Consistency training: f(x + sigma n, sigma) is the image, alike at neighbouring levels of the same image and noise.

Shape suffixes: B batch, N noise levels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import erf
from torch import Tensor

from immref import Paired, diffusion, schedules
from immref_trainers.config import Consistency
from immref_trainers.objectives.distances import Distance, build
from immref_trainers.objectives.regression import Array, Conditions, Predictor, class_labels

LOG_MEAN, LOG_STD = -1.1, 2.0  # of ict's noise levels (Song & Dhariwal 2023)


@dataclass(frozen=True)
class ConsistencyTraining:
    """The objective over `train_steps`; `sigma_data` is that of the images as scaled.

    The network's time is 250 ln sigma, as diffusers' scheduler has it.
    """

    settings: Consistency
    train_steps: int
    sigma_data: float
    distance: Distance

    def times(self, generator: np.random.Generator, count: int, step: int) -> Array:
        """Pairs (B, 2) of neighbouring noise levels at a training step: the upper, the lower."""
        settings = self.settings
        sigma_N = self.grid(step)
        chance_N = self.chances(sigma_N)
        lower = generator.integers(len(sigma_N) - 1, size=count) if chance_N is None else generator.choice(len(chance_N), count, p=chance_N)
        return np.stack([sigma_N[lower + 1], sigma_N[lower]], axis=1).clip(settings.sigma_min, settings.sigma_max).astype(np.float32)

    def grid(self, step: int) -> Array:
        """The noise levels (N,) at a training step, rising."""
        settings = self.settings
        return schedules.karras_sigmas(settings.levels(step, self.train_steps), settings.sigma_min, settings.sigma_max)

    def chances(self, sigma_N: Array) -> Array | None:
        """The probability (N - 1,) of each level but the last to be the lower one; None where all are alike."""
        if self.settings.variant == "ct":
            return None
        below_N = erf((np.log(sigma_N) - LOG_MEAN) / (math.sqrt(2) * LOG_STD))
        chance: Array = np.diff(below_N) / (below_N[-1] - below_N[0])
        return chance

    def predictor(self, network: torch.nn.Module, conditions: Conditions = class_labels) -> Predictor:
        """The consistency function (x_sigma, sigma_B, labels_B) → image; at sigma_min it is the identity."""

        def predict(x: Tensor, sigma_B: Tensor, labels_B: Tensor | None) -> Tensor:
            told = {} if labels_B is None else conditions(labels_B)
            c_in_B = diffusion.consistency_scalings(sigma_B, self.sigma_data, self.settings.sigma_min)[2]
            output = network(diffusion.per_sample(c_in_B, x) * x, 250 * sigma_B.log(), **told).sample
            image: Tensor = diffusion.consistency(output.to(x.dtype), x, sigma_B, self.sigma_data, self.settings.sigma_min)
            return image

        return predict

    def loss(
        self, predict: Predictor, paired: Paired, t_B: Tensor, labels_B: Tensor | None = None, *, teach: Predictor | None = None
    ) -> Tensor:
        """The mean distance of the outputs at two levels, both reached by the same noise, under the same dropout."""
        above_B, below_B = t_B.unbind(1)
        devices = [paired.x.device] if paired.x.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):  # the random numbers of dropout are left for the student
            wanted = (teach or predict)(diffusion.corrupt(paired.x, paired.noise, 1.0, below_B), below_B, labels_B)
        apart_B = self.distance(predict(diffusion.corrupt(paired.x, paired.noise, 1.0, above_B), above_B, labels_B), wanted)
        return (apart_B / (above_B - below_B)).mean() if self.settings.variant == "ict" else apart_B.mean()

    def target_decay(self, step: int) -> float | None:
        """mu(k) of ct."""
        settings = self.settings
        if settings.variant == "ict":
            return None
        return schedules.consistency_decay(settings.levels(step, self.train_steps), settings.s0, settings.mu0)


def training(settings: Consistency, train_steps: int, scale: float, like: Tensor) -> ConsistencyTraining:
    """The objective of `settings` for images scaled by `scale`, on the device of `like`."""
    return ConsistencyTraining(settings, train_steps, scale * settings.sigma_data, build(settings, scale, like))
