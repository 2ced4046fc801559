"""What every objective has; and what flow matching and DDPM share: predicting something of x and n at x_t = a x + b n."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from immref import Paired
from immref.diffusion import corrupt, target

Predictor = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x_t, t_B, labels_B) → prediction
Conditions = Callable[[Tensor], dict[str, Tensor]]  # labels_B → a network's further arguments
Array = np.ndarray[Any, Any]


def class_labels(labels_B: Tensor) -> dict[str, Tensor]:
    """Labels under the name of diffusers' UNet2DModel."""
    return {"class_labels": labels_B}


class Learned(Protocol):
    """What the loop and the samplers need of an objective."""

    def times(self, generator: np.random.Generator, count: int, step: int) -> Array:
        """What training draws for `count` images at a step beside their noise: times (B,), or pairs of noise levels (B, 2)."""

    def loss(
        self, predict: Predictor, paired: Paired, t_B: Tensor, labels_B: Tensor | None = None, *, teach: Predictor | None = None
    ) -> Tensor:
        """The loss of `predict`; `teach` is what a target network predicts, `predict` itself where there is none."""

    def predictor(self, network: torch.nn.Module, conditions: Conditions = class_labels) -> Predictor:
        """A network as what samplers call; `conditions` say what it is told of labels."""

    def target_decay(self, step: int) -> float | None:
        """How slowly a target network follows the weights; None where there is none."""


@dataclass(frozen=True)
class Regression:
    """An objective in four parts; the settings that chose them are `config.Objective`.

    Attributes
    ----------
    prediction : one of immref.diffusion.PREDICTIONS
    draw : (generator, B) → t_B, the times that training draws, the same at every step
    coefficients : t_B → (a_B, b_B) in the dtype and on the device of the images
    time_units : the network's time divided by t
    """

    prediction: str
    draw: Callable[[np.random.Generator, int], Array]
    coefficients: Callable[[Tensor], tuple[Tensor, Tensor]]
    time_units: float

    def times(self, generator: np.random.Generator, count: int, step: int) -> Array:  # noqa: ARG002
        """Times (B,)."""
        return self.draw(generator, count)

    def target_decay(self, step: int) -> None:
        """The target is known: no network makes it."""

    def loss(
        self,
        predict: Predictor,
        paired: Paired,
        t_B: Tensor,
        labels_B: Tensor | None = None,
        *,
        teach: Predictor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Mean squared error of the prediction; the noise that corrupts is the noise in the target."""
        a_B, b_B = self.coefficients(t_B)
        x_t = corrupt(paired.x, paired.noise, a_B, b_B)
        return torch.nn.functional.mse_loss(predict(x_t, t_B, labels_B), target(self.prediction, paired.x, paired.noise, a_B, b_B))

    def predictor(self, network: torch.nn.Module, conditions: Conditions = class_labels) -> Predictor:
        """diffusers' network as a function (x_t, t_B, labels_B) → prediction; labels are None where it is told none."""

        def predict(x_t: Tensor, t_B: Tensor, labels_B: Tensor | None) -> Tensor:
            told = {} if labels_B is None else conditions(labels_B)
            prediction: Tensor = network(x_t, t_B * self.time_units, **told).sample
            return prediction

        return predict
