"""The runs that are analysed side by side, and what all analyses of them share."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref.diffusion import recover
from immref_trainers import environment, finished, objectives, samplers, streams
from immref_trainers.analysis.settings import Settings
from immref_trainers.config import Consistency, Run
from immref_trainers.data import training
from immref_trainers.data.training import Images
from immref_trainers.errors import UsageError
from immref_trainers.experiment import finished as outcome_of
from immref_trainers.metrics.judge import Judge
from immref_trainers.networks.settings import UNet
from immref_trainers.objectives.regression import Regression
from immref_trainers.results import Outcome
from immref_trainers.samplers import ddim, priors

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """A finished run, opened.

    Attributes
    ----------
    name : how the pictures call it: its pairing, with the seed where runs of several seeds are analysed
    """

    name: str
    run: Run
    largest: float
    model: finished.Model
    device: torch.device
    outcome: Outcome

    @property
    def steps(self) -> int:
        """The sampler's, the most that the run was judged by."""
        return max(self.run.evaluation.sampler_steps)

    @property
    def window(self) -> int:
        """Images that are paired together in training."""
        return self.run.train_batch_size * self.run.gradient_accumulation_steps

    @property
    def layers(self) -> list[tuple[float, float, float]]:
        """(t, a, b) at each of the sampler's steps, from the noisiest."""
        if self.run.sampler.method == "ddim":
            times, coefficients = ddim.path(self.run, self.steps)
            return [(float(t), *pair) for t, pair in zip(times, coefficients, strict=False)]
        return [(i / self.steps, i / self.steps, 1 - i / self.steps) for i in range(self.steps)]

    def sample(self, noise: Array, labels: Array | None, steps: int | None = None) -> Array:
        """Samples (M, C, H, W) from given noise."""
        return self._follow(self.model.predict, noise, labels, steps or self.steps)

    def predicted(self, noise: Array, labels: Array | None) -> tuple[Array, Array]:
        """The image predicted at every layer on the way (S, M, C, H, W), Eq. 2, within the data's range; and the samples (M, C, H, W)."""
        regression, seen, scale = self.regression, list[Tensor](), self.run.pairing.scale

        def predict(x_t: Tensor, t_B: Tensor, labels_B: Tensor | None) -> Tensor:
            output = self.model.predict(x_t, t_B, labels_B)
            x, _ = recover(regression.prediction, output, x_t, *regression.coefficients(t_B))
            seen.append((x / scale).clamp(-self.largest, self.largest).cpu())
            return output

        samples = self._follow(predict, noise, labels, self.steps)
        layers = [torch.cat(seen[layer :: self.steps]) for layer in range(self.steps)]  # pieces of the noise come one after the other
        return torch.stack(layers).numpy(), samples

    @torch.inference_mode()
    def denoised(self, x_t: Array, t: float, a: float, b: float, labels: Array | None) -> Array:
        """The image predicted at x_t = a x + b n, image scaling kept, within the data's range."""
        x = torch.from_numpy(x_t.astype(np.float32)).to(self.device)
        times = torch.full((len(x),), t, device=self.device)
        output = self.model.predict(x, times if self.run.sampler.method != "ddim" else times.long(), _tensor(labels, self.device))
        most = self.largest * self.run.pairing.scale
        found: Array = recover(self.regression.prediction, output, x, a, b)[0].clamp(-most, most).cpu().numpy()
        return found

    @property
    def regression(self) -> Regression:
        """Its objective, of those that predict something of x and n."""
        objective = objectives.build(self.run.objective, torch.empty(0, device=self.device))
        assert isinstance(objective, Regression)
        return objective

    def _follow(self, predict: Any, noise: Array, labels: Array | None, steps: int) -> Array:
        generator = streams.generator(streams.RENOISE, self.run.seed)
        start = torch.from_numpy(noise.astype(np.float32)).to(self.device)
        made = samplers.sample(self.run, predict, start, steps, self.largest, _tensor(labels, self.device), generator)
        return self.model.decode(made).numpy()


@dataclass(frozen=True)
class Shared:
    """Runs on the same images, vanilla first, and what judges them."""

    subjects: list[Subject]
    images: Images
    judge: Judge
    settings: Settings

    def noise(self, count: int) -> Array:
        """The same noise for every run."""
        return priors.gaussian((count, *self.images.train.shape), self.settings.seed)

    def labels(self, count: int) -> Array | None:
        """What is asked for, in turn."""
        return np.arange(count) % self.images.classes if self.subjects[0].run.network.class_conditional else None

    @property
    def regressions(self) -> list[Subject]:
        """The runs that predict an image at every layer; a consistency model's samples are its predictions."""
        return [subject for subject in self.subjects if not isinstance(subject.run.objective, Consistency)]


def opened(folders: list[Path], settings: Settings, device: torch.device) -> Shared:
    """Open finished runs of one data set.

    Raises
    ------
    UsageError
        Where a folder is no finished run, works in latents or on actions, or the runs differ in more than pairing and seed.
    """
    runs = {folder: finished.opened(folder) for folder in folders}
    first = next(iter(runs.values()))[0]
    for folder, (run, _) in runs.items():
        if not isinstance(run.network, UNet):
            raise UsageError(
                f"{folder} trains {run.network.architecture}: analyses of runs read images of pixels; kl, dose and plane apply everywhere"
            )
        if dataclasses.replace(run, pairing=first.pairing, seed=first.seed) != first:
            raise UsageError(f"runs must differ in pairing and seed alone; {folder} differs from {folders[0]} in something else")
        if max(run.evaluation.sampler_steps) == 0:
            raise UsageError(f"{folder} was judged by the adaptive solver alone, which has no layers; analyses need a number of steps")
        if not (folder / "outcome.json").is_file():
            raise UsageError(f"{folder} is not the folder of a finished run: it lacks outcome.json")
    if len({(run.pairing, run.seed) for run, _ in runs.values()}) < len(runs):
        raise UsageError("runs must differ in pairing or seed, got two of the same")
    try:
        images = training.open_images(first.data, first.seed)
        training.check(images, first)
    except ValueError as error:
        raise UsageError(str(error)) from error
    several = len({run.seed for run, _ in runs.values()}) > 1
    found = [
        Subject(
            f"{run.pairing}, seed {run.seed}" if several else str(run.pairing),
            run,
            facts["largest"],
            finished.model(run, folder, (), device),
            device,
            outcome_of(folder).outcome,
        )
        for folder, (run, facts) in runs.items()
    ]
    found.sort(key=lambda subject: order(subject.run))
    return Shared(found, images, Judge(images, first), settings)


def order(run: Run) -> tuple[bool, bool, float, int, int]:
    """Vanilla comes first, then KNN by k, then others; plain images before scaled ones."""
    pairing = run.pairing
    return pairing.scale != 1, pairing.method == "linear_assignment", pairing.scale, pairing.k, run.seed


def _tensor(labels: Array | None, device: torch.device) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels).to(device)


def new_output(settings: Settings, first: Path, stamp: str) -> Path:
    """The folder of the report, which must not hold anything."""
    folder = settings.output_dir or Path("runs") / f"{first.resolve().name}-analysis-{stamp}"
    environment.check_new(folder)
    return folder
