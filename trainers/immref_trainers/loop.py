"""The training loop: window of batches → pair once → micro-batches → corrupt → network → loss → optimizer → EMA."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

import immref
from immref import Paired, Seed
from immref.miscibility import mean_square
from immref_trainers import objectives, streams
from immref_trainers.config import Run
from immref_trainers.data.order import window_indices
from immref_trainers.errors import TrainingError
from immref_trainers.networks import unet


@dataclass(frozen=True)
class Step:
    """What one optimisation step did.

    Attributes
    ----------
    step : steps finished, from 1
    loss, grad_norm : means over the window, the norm before clipping
    before, after : mean image-noise distance under independent noise and as paired
    mean_square : E n² of the noise used
    pairing_ms, step_ms : wall time of pairing, and of the whole step with it
    """

    step: int
    loss: float
    grad_norm: float
    before: float
    after: float
    mean_square: float
    pairing_ms: float
    step_ms: float


class Trainer:
    """The state of a run: objective, network, its moving average, optimizer. `steps()` trains.

    `largest` is the largest absolute value of the images, before scaling.
    """

    def __init__(self, run: Run, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], accelerator: Accelerator) -> None:
        if accelerator.num_processes != 1:
            raise TrainingError(f"this version trains in one process, got {accelerator.num_processes}; start it with plain python")
        self.run, self.images, self.labels, self.accelerator = run, images, labels, accelerator
        self.objective = objectives.build(run.objective, self.place(images[:1]))
        self.largest = float(max(images.max(), -images.min()))
        network = unet.build(run.network, images.shape[1], images.shape[2], streams.torch_seed(streams.WEIGHTS, run.seed))
        optimizer = torch.optim.Adam(network.parameters(), run.optimizer.learning_rate)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.average = copy.deepcopy(accelerator.unwrap_model(self.network)).requires_grad_(False).eval()

    def place(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """An array on the training device."""
        return torch.from_numpy(array).to(self.accelerator.device)

    def steps(self) -> Iterator[Step]:
        """Train; yield after every optimisation step."""
        run = self.run
        window = run.train_batch_size * run.gradient_accumulation_steps
        predict = self.objective.predictor(self.network)
        for step in range(run.max_train_steps):
            began = self._clock()
            rows = window_indices(len(self.images), window, run.seed, step)
            x = self.place(self.images[rows])
            t_B = self.place(self.objective.times(streams.generator(streams.TIME, run.seed, step), window))
            started = self._clock()
            paired = immref.pair(x, run.pairing, group=self.labels[rows], rng=Seed(run.seed, step))
            pairing_s = self._clock() - started

            losses = []
            for micro, t in split(paired, t_B, run.train_batch_size):
                loss = self.objective.loss(predict, micro, t)
                self.accelerator.backward(loss / run.gradient_accumulation_steps)
                losses.append(loss.detach())
            grad_norm = self.accelerator.clip_grad_norm_(self.network.parameters(), run.optimizer.max_grad_norm)
            mean_loss, grad_norm = float(torch.stack(losses).mean()), float(grad_norm)
            if not np.isfinite([mean_loss, grad_norm]).all():
                raise TrainingError(
                    f"the loss is {mean_loss} and its gradient {grad_norm} at step {step + 1} "
                    f"with learning rate {run.optimizer.learning_rate:g}"
                )
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._average(step)
            yield Step(
                step=step + 1,
                loss=mean_loss,
                grad_norm=grad_norm,
                before=float(paired.before),
                after=float(paired.after),
                mean_square=mean_square(paired.noise),
                pairing_ms=1e3 * pairing_s,
                step_ms=1e3 * (self._clock() - began),
            )

    def _average(self, step: int) -> None:
        """Move the average towards the weights; its decay warms up as (1 + step) / (10 + step)."""
        decay = min(self.run.optimizer.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.accelerator.unwrap_model(self.network).parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)

    def _clock(self) -> float:
        """Seconds, once the device has finished what it was given."""
        if self.accelerator.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


def split(paired: Paired, t_B: torch.Tensor, size: int) -> Iterator[tuple[Paired, torch.Tensor]]:
    """Micro-batches of a paired window: images, noise and index stay together."""
    for start in range(0, len(t_B), size):
        rows = slice(start, start + size)
        yield replace(paired, x=paired.x[rows], noise=paired.noise[rows], index=paired.index[rows]), t_B[rows]
