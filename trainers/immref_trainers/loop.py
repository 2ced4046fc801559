"""The training loop: window of batches → pair once → micro-batches → corrupt → network → loss → optimizer → EMA."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from immref import Paired
from immref_trainers import learning_rate, objectives, pooling, spaces, streams, train_state
from immref_trainers.checkpoint import Checkpoint
from immref_trainers.config import Run
from immref_trainers.data.training import Images
from immref_trainers.data.windows import windows
from immref_trainers.errors import TrainingError
from immref_trainers.networks.settings import TextUNet
from immref_trainers.objectives.regression import Predictor


@dataclass(frozen=True)
class Step:
    """What one optimisation step did.

    Attributes
    ----------
    step : steps finished, from 1
    loss, grad_norm : means over the windows of all processes, the norm before clipping
    learning_rate : of this step
    before, after : mean image-noise distance under independent noise and as paired
    mean_square : E n² of the noise used
    pairing_ms, step_ms : wall time of pairing, and of the whole step with it, of this process
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    before: float
    after: float
    mean_square: float
    pairing_ms: float
    step_ms: float


class Trainer:
    """The state of a run: objective, network, its moving average, optimizer. `steps()` trains; `state()` is what a checkpoint holds."""

    def __init__(self, run: Run, images: Images, accelerator: Accelerator) -> None:
        self.run, self.accelerator = run, accelerator
        pooling.check(run, accelerator.num_processes)
        with accelerator.local_main_process_first():  # which makes what others find made
            self.space = spaces.of_run(run, images, accelerator.device)
        self.objective = objectives.build(run.objective, torch.empty(0, device=accelerator.device), run.max_train_steps, run.pairing.scale)
        network = self.space.network()
        self.frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, run.optimizer.learning_rate, run.optimizer.betas, weight_decay=run.optimizer.weight_decay)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.bare = accelerator.unwrap_model(self.network)
        self.average = train_state.twin(network).eval()
        taught = self.objective.target_decay(0) is not None
        self.target = train_state.twin(network) if taught else None

    def place(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """An array on the training device."""
        return torch.from_numpy(array).to(self.accelerator.device)

    def steps(self, start: int = 0) -> Iterator[Step]:
        """Train from `start` finished steps on; yield after every optimisation step."""
        run, accelerator = self.run, self.accelerator
        predict, teach = (self.predictor(network) for network in (self.network, self.target or self.bare))
        here = accelerator.process_index, accelerator.num_processes
        coming = windows(run, self.space.train, self.objective.times, *here, start)
        for step, window in zip(range(start, run.max_train_steps), coming, strict=False):
            began = self._clock()
            x, t_B = self.place(window.x), self.place(window.times)
            labels_B = self._told(window.labels, step)
            started = self._clock()
            paired = pooling.pair_window(x, window.labels, run, step, accelerator)
            pairing_s = self._clock() - started

            if run.network.dropout:
                torch.manual_seed(streams.torch_seed(streams.DROPOUT, run.seed, step, accelerator.process_index))
            losses = []
            for number, (micro, t, labels) in enumerate(split(paired, t_B, labels_B, run.train_batch_size), start=1):
                with self._exchanging(gradients=number == run.gradient_accumulation_steps):
                    loss = self.objective.loss(predict, micro, t, labels, teach=teach)
                    accelerator.backward(loss / run.gradient_accumulation_steps)
                losses.append(loss.detach())
            grad_norm = float(accelerator.clip_grad_norm_(self.network.parameters(), run.optimizer.max_grad_norm))
            numbers = [float(torch.stack(losses).mean()), float(paired.before), float(paired.after), float(paired.noise.square().mean())]
            loss_mean, before, after, mean_square = self._mean(numbers)
            self._check_finite(step, loss_mean, grad_norm)
            rate = learning_rate.at(run.optimizer, step, run.max_train_steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._follow(step)
            times = {"pairing_ms": 1e3 * pairing_s, "step_ms": 1e3 * (self._clock() - began)}
            yield Step(step + 1, loss_mean, grad_norm, rate, before, after, mean_square, **times)

    def predictor(self, network: torch.nn.Module) -> Predictor:
        """A network of this run as what samplers call."""
        return self.objective.predictor(network, self.space.conditions)

    def state(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
        """Groups of tensors and records: with a step count, all that a run is; every process has the same."""
        tensors = {name: train_state.learned(network, self.frozen) for name, network in self._networks().items()}
        tensors["optimizer"] = train_state.flatten(self.optimizer.state_dict(), self.bare)
        scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        run = dataclasses.asdict(self.run)
        return tensors, {"run": train_state.plain(run), "trainer": {"processes": self.accelerator.num_processes, "scaler": scaler}}

    def restore(self, saved: Checkpoint) -> None:
        """Become what `state()` was; a TrainingError where that was another run, or one of another number of processes."""
        train_state.check_same(saved, self.state()[1])
        for name, network in self._networks().items():
            train_state.learn(network, self.frozen, saved.tensors[name])
        self.optimizer.load_state_dict(train_state.unflatten(saved.tensors["optimizer"], self.optimizer.state_dict(), self.bare))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.records["trainer"]["scaler"])

    def _networks(self) -> dict[str, torch.nn.Module]:
        """All of this run, by the names that a checkpoint gives them."""
        networks = {"network": self.bare, "average": self.average, "target": self.target}
        return {name: network for name, network in networks.items() if network is not None}

    def _told(self, labels: np.ndarray[Any, Any] | None, step: int) -> torch.Tensor | None:
        """The labels (B,) as the network is told them, some prompts left out; None where it is told none."""
        settings = self.run.network
        if labels is None or not settings.class_conditional:
            return None
        if isinstance(settings, TextUNet):
            assert self.space.unasked is not None
            chance_B = streams.generator(streams.UNASKED, self.run.seed, step, self.accelerator.process_index).random(len(labels))
            labels = np.where(chance_B < settings.caption_dropout, self.space.unasked, labels)
        return self.place(labels)

    def _exchanging(self, gradients: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients after the last micro-batch of a window alone."""
        return nullcontext() if gradients else self.accelerator.no_sync(self.network)

    def _mean(self, values: list[float]) -> list[float]:
        """Means over the processes."""
        if self.accelerator.num_processes == 1:
            return values
        return self.accelerator.reduce(torch.tensor(values, device=self.accelerator.device), "mean").tolist()  # type: ignore[no-any-return]

    def _check_finite(self, step: int, loss: float, grad_norm: float) -> None:
        """Stop before the weights are spoilt; under fp16 the gradient scaler deals with gradients that overflow."""
        if not np.isfinite([loss, 0.0 if self.accelerator.scaler is not None else grad_norm]).all():
            rate = self.run.optimizer.learning_rate
            raise TrainingError(f"the loss is {loss} and its gradient {grad_norm} at step {step + 1} with learning rate {rate:g}")

    def _follow(self, step: int) -> None:
        """Move the average towards the weights, its decay warming up, and the target network with its own."""
        follow(self.average, self.bare, self.run.optimizer.decay_at(step))
        decay = self.objective.target_decay(step)
        if self.target is not None and decay is not None:
            follow(self.target, self.bare, decay)

    def _clock(self) -> float:
        """Seconds, once the device has finished what it was given."""
        if self.accelerator.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


@torch.no_grad()
def follow(mean: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """An exponential moving average of weights takes in the newest."""
    for behind, weight in zip(mean.parameters(), network.parameters(), strict=True):
        if weight.requires_grad:
            behind.lerp_(weight, 1 - decay)


def split(
    paired: Paired, t_B: torch.Tensor, labels_B: torch.Tensor | None, size: int
) -> Iterator[tuple[Paired, torch.Tensor, torch.Tensor | None]]:
    """Micro-batches of a paired window: images, noise, index, times and labels stay together."""
    for start in range(0, len(t_B), size):
        rows = slice(start, start + size)
        micro = replace(paired, x=paired.x[rows], noise=paired.noise[rows], index=paired.index[rows])
        yield micro, t_B[rows], None if labels_B is None else labels_B[rows]
