"""`immref sample`: new images of a finished run, from its folder alone."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file

from immref_trainers import arrays, environment, figures, finished, samplers, streams
from immref_trainers.config import Run
from immref_trainers.data.settings import require
from immref_trainers.data.training import as_bytes
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.networks.settings import TextUNet
from immref_trainers.results import counted
from immref_trainers.samplers import priors

FloatArray = np.ndarray[Any, Any]

IN_GRID = 400  # images that grid.png shows at most


@dataclass(frozen=True)
class Settings:
    """How many images, and from which noise."""

    num_samples: int = 64
    steps: int | None = None
    """Of the run's sampler, 0 for flow matching's adaptive solver; the most that the run was judged by where left out."""
    prior: Literal["gaussian", "moment"] = "gaussian"
    """Start from N(0, I), or from the Gaussian fitted to the noise that the run's pairing produced."""
    seed: int = 0
    label: int | None = None
    """What to ask a class-conditional network for; every label in turn where left out."""
    prompt: str | None = None
    """What to ask a network told in words for; the prompts of its data in turn where left out."""
    output_dir: Path | None = None
    """A new or empty folder; by default one under runs/ named after the run and the time."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", "be ≥ 1", self.num_samples)
        require(self.prompt is None or self.label is None, "prompt", "be left out where a label is given", repr(self.prompt))
        require(0 <= self.seed < 2**63, "seed", "be in [0, 2**63)", self.seed)


def sample(folder: Path, settings: Settings, device: torch.device | str, console: Console) -> Path:
    """Write `num_samples` images of the run in `folder` as PNG files, `grid.png` and `samples.safetensors`; return their folder.

    Raises
    ------
    UsageError
        Where `folder` is not a finished run, or the settings do not suit it.
    FileExistsError
        Where the output folder already holds something.
    TrainingError
        Where samples are not finite.
    """
    run, facts = finished.opened(folder)
    texts = texts_of(run, settings, facts)
    steps, labels = steps_of(run, settings.steps), labels_of(run, settings, len(texts) or facts["classes"])
    name = f"{folder.resolve().name}-samples-{time.strftime('%Y%m%d-%H%M%S')}"
    output = settings.output_dir or Path("runs") / name
    environment.check_new(output)

    noise = priors.gaussian((settings.num_samples, *facts["shape"]), settings.seed)
    if settings.prior == "moment":
        noise = priors.moment(load_file(folder / "prior.safetensors"), noise)
    model = finished.model(run, folder, texts, device)
    told = None if labels is None else torch.from_numpy(labels).to(device)
    with console.status(f"{settings.num_samples:,} samples in {counted(steps)} each"):
        x = model.decode(
            samplers.sample(
                run,
                model.predict,
                torch.from_numpy(noise).to(device),
                steps,
                facts["largest"],
                told,
                streams.generator(streams.RENOISE, settings.seed),
            )
        ).numpy()
    if not np.isfinite(x).all():
        raise TrainingError(f"samples of {folder} are not finite in {counted(steps)}")
    write(x, labels, as_bytes(x, facts["low"], facts["high"]), environment.new_folder(output))
    console.print(
        f"{settings.num_samples:,} samples of {folder} in {counted(steps)} from {settings.prior} noise: {output}", highlight=False
    )
    return output


def steps_of(run: Run, asked: int | None) -> int:
    """The sampler's steps."""
    if asked is None:
        return max(run.evaluation.sampler_steps)
    least, most = run.sampler_range()
    adaptive = asked == 0 and run.sampler.method == "euler"
    if not (adaptive or least <= asked <= most):
        raise UsageError(f"steps must lie in [{least}, {most:g}] for the {run.sampler.method} sampler of this run, got {asked}")
    return asked


def texts_of(run: Run, settings: Settings, facts: dict[str, Any]) -> tuple[str, ...]:
    """What a network told in words can be asked for, of label i the i-th; nothing for other networks."""
    if not isinstance(run.network, TextUNet):
        if settings.prompt is not None:
            raise UsageError(f"prompt={settings.prompt!r} needs a run whose network is told in words, and this one's is not")
        return ()
    if settings.label is not None and run.network.prompt is None:
        raise UsageError(f"label={settings.label} needs a run that was told labels, and this one was told captions; ask with --prompt")
    return (settings.prompt,) if settings.prompt is not None else tuple(facts["prompts"])


def labels_of(run: Run, settings: Settings, classes: int) -> FloatArray | None:
    """The labels to ask for (M,); None where the network is told none."""
    label = settings.label
    if not run.network.class_conditional:
        if label is not None:
            raise UsageError(f"label={label} needs a class-conditional run, and this one's network is told no labels")
        return None
    if label is None:
        return np.arange(settings.num_samples) % classes
    if not 0 <= label < classes:
        raise UsageError(f"label must be in [0, {classes}), got {label}")
    return np.full(settings.num_samples, label)


def write(x: FloatArray, labels: FloatArray | None, pixels: FloatArray, folder: Path) -> None:
    """Every file of the samples."""
    figures.save(pixels, folder)
    shown = pixels[:IN_GRID]
    Image.fromarray(figures.tile(shown, columns=int(np.ceil(np.sqrt(len(shown)))))).save(folder / "grid.png")
    arrays.save({"samples": x} | ({} if labels is None else {"labels": labels}), folder / "samples.safetensors")
