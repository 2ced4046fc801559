"""`immref edit`: repair held-out images with one finished run or several, judge them, and show them."""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from immref_trainers import environment, figures, finished, terminal
from immref_trainers.config import Run
from immref_trainers.data import prompts, training
from immref_trainers.data.training import Images
from immref_trainers.edit import figure, repair
from immref_trainers.edit.results import Edited, Row, table
from immref_trainers.edit.settings import Settings, Task
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.metrics.judge import Judge
from immref_trainers.networks.settings import TextUNet
from immref_trainers.sample import steps_of
from immref_trainers.samplers import priors

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Job:
    """What every run repairs: images x (N, C, H, W), what they are told as, and who judges."""

    images: Images
    x: Array
    texts: tuple[str, ...]
    labels: Array | None
    judge: Judge
    device: torch.device


def edit(given: list[Path], settings: Settings, device: torch.device, console: Console) -> Edited:
    """Repair images with every run in `given`, folders of runs or of comparisons; write everything into the output folder.

    Raises
    ------
    UsageError
        Where a folder holds no finished run, the runs differ in their data, or cannot repair.
    FileExistsError
        Where the output folder already holds something.
    TrainingError
        Where a repaired image is not finite.
    """
    opened = {folder: finished.opened(folder) for folder in finished.runs_in(given)}
    runs = dict(sorted(opened.items(), key=lambda one: one[1][0].pairing.method != "vanilla"))  # what others are compared with comes first
    check([run for run, _ in runs.values()], settings)
    output = settings.output_dir or Path("runs") / f"{given[0].resolve().name}-edit-{time.strftime('%Y%m%d-%H%M%S')}"
    environment.check_new(output)
    first = next(iter(runs.values()))[0]
    with console.status("reading the images and fitting the networks by which they are judged"):
        job = prepare(first, settings, device)
    environment.new_folder(output)
    rows: list[Row] = []
    emptied = {}
    for task in settings.tasks:
        missing = repair.missing_part(task, job.x.shape[2], job.x.shape[3], settings.centre)
        hollow = repair.emptied(job.x, missing, settings.seed)
        emptied[task] = job.judge.score(hollow, job.labels)
        strips = {"original": job.x, "known": hollow}
        for number, (folder, (run, facts)) in enumerate(runs.items()):
            with console.status(f"{task} with {folder} ({number + 1} of {len(runs)})"):
                raw = made_by(folder, run, facts["largest"], hollow, missing, job, settings)
            whole = repair.composited(raw, job.x, missing)
            rows.append(row(task, run, raw, whole, missing, job))
            if run.seed == first.seed:
                strips |= {f"{run.pairing}\nraw": raw, f"{run.pairing}\ncomposited": whole}
            figures.save(job.images.pixels(whole), environment.new_folder(output / folder.name / task))
        figure.draw({name: job.images.pixels(x) for name, x in strips.items()}, output / f"{task}.png")
    edited = Edited([str(folder) for folder in runs], len(job.x), job.judge.score(job.x, job.labels), emptied, rows)
    (output / "edit.json").write_text(json.dumps(dataclasses.asdict(edited), indent=1) + "\n", encoding="utf-8")
    for task in settings.tasks:
        terminal.show(table(edited, task), console)
    console.print(f"\nimages, pictures and every number: {output}", highlight=False)
    return edited


def check(runs: list[Run], settings: Settings) -> None:
    """A UsageError where the runs cannot be set side by side, or not repair."""
    first = runs[0]
    for run in runs:
        if run.data != first.data:
            raise UsageError(f"runs must have the same data, got {first.data.dataset_name} and {run.data.dataset_name} with other settings")
        if run.sampler.method != "ddim":
            raise UsageError(f"edit needs runs sampled by ddim, got {run.sampler.method}")
        if settings.resample and (run.sampler.clip_sample or run.objective.prediction != "epsilon"):  # type: ignore[union-attr]
            raise UsageError("resample needs runs that predict epsilon and do not clip samples")
        steps_of(run, settings.steps)


def prepare(run: Run, settings: Settings, device: torch.device) -> Job:
    """The images, what they are told as, and a judge of the run's own kind."""
    try:
        images = training.open_images(run.data, run.seed)
        training.check(images, run)
    except ValueError as error:
        raise UsageError(str(error)) from error
    index = np.arange(min(settings.num_images, len(images.held_out)))
    texts: tuple[str, ...] = ()
    labels = images.held_out.labels(index) if run.network.class_conditional else None
    if isinstance(run.network, TextUNet):
        told = prompts.of_images(run.network, images)
        texts = told.texts
        labels = labels if told.held_out is None else told.held_out.drawn(run.seed, index, None)
    return Job(images, images.held_out.images(index), texts, labels, Judge(images, run, device), device)


def made_by(folder: Path, run: Run, largest: float, hollow: Array, missing: Array, job: Job, settings: Settings) -> Array:
    """What one run makes of the emptied images (N, C, H, W)."""
    model = finished.model(run, folder, job.texts, job.device)
    known = repair.known_part(model, run, hollow, missing)
    noise = torch.from_numpy(priors.gaussian(tuple(known.x.shape), settings.seed)).to(job.device)
    labels = None if job.labels is None else torch.from_numpy(job.labels).to(job.device)
    steps = steps_of(run, settings.steps)
    if settings.resample:
        made = repair.resampled(model, run, known, noise, labels, steps, settings.resample, settings.seed)
    else:
        made = repair.repaired(model, run, known, noise, labels, steps, largest)
    raw: Array = made.numpy()
    if not np.isfinite(raw).all():
        raise TrainingError(f"images repaired with {folder} are not finite")
    return raw


def row(task: Task, run: Run, raw: Array, whole: Array, missing: Array, job: Job) -> Row:
    """The numbers of one run."""
    changed = float(np.sqrt(np.square((raw - job.x)[..., ~missing]).mean()))
    return Row(task, run.pairing, run.seed, job.judge.score(raw, job.labels), job.judge.score(whole, job.labels), changed)
