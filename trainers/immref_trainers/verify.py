"""`immref verify`: is a run's folder as it was saved, and does training a few of its steps again give the same bits?"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from immref_trainers import checkpoint, config, environment, steplog, strict_json, train_state
from immref_trainers.checkpoint import Checkpoint
from immref_trainers.config import Run
from immref_trainers.data import training
from immref_trainers.data.settings import require
from immref_trainers.data.training import Images
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.loop import Step, Trainer
from immref_trainers.results import Environment

COMPARED = ("loss", "grad_norm", "learning_rate", "before", "after", "mean_square")  # of a Step: all but its times


@dataclass(frozen=True)
class Settings:
    """From where to train again, and how far."""

    start: int | None = None
    """After how many steps to begin: those of a checkpoint, or 0; where left out, the newest checkpoint with logged steps after it."""
    steps: int = 3
    """Steps to train again, as far as there are logged ones; another checkpoint among them is compared, too."""

    def __post_init__(self) -> None:
        require(self.start is None or self.start >= 0, "start", "be ≥ 0", self.start)
        require(self.steps >= 1, "steps", "be ≥ 1", self.steps)


@dataclass(frozen=True)
class Finding:
    """What was looked at, what came out, and whether that is as it should be."""

    subject: str
    said: str
    good: bool = True


def verify(folder: Path, settings: Settings, console: Console) -> bool:
    """Print each finding as it comes; whether all are good."""
    good = True
    for finding in findings(folder, settings):
        console.print(f"{finding.subject:17} {finding.said}", highlight=False, markup=False, soft_wrap=True)
        good &= finding.good
    console.print("everything is as it was" if good else "something differs", highlight=False)
    return good


def findings(folder: Path, settings: Settings) -> Iterator[Finding]:
    """Look at the checkpoints' hashes, the step log and the environment, then train again. Nothing in `folder` is changed.

    Raises
    ------
    UsageError
        Where `folder` holds no run, or its images, its device or the checkpoint asked for are not here.
    TrainingError
        Where the run cannot go on here, as one of another number of processes.
    """
    (run, then), paths = opened(folder), checkpoint.checkpoints(folder)
    if settings.start and settings.start not in paths:
        there = ", ".join(map(str, sorted(paths))) or "no checkpoint"
        raise UsageError(f"start must be 0 or the steps of a checkpoint, got {settings.start}; {folder} holds {there}")
    intact = {}
    for step, path in paths.items():
        try:
            checkpoint.find(folder, path.name)
        except TrainingError as error:
            yield Finding(path.name, str(error), good=False)
        else:
            intact[step] = path
            yield Finding(path.name, "as it was saved")
    log, fault = logged(folder, max(paths, default=0))
    yield Finding(steplog.FILE, fault or f"{len(log):,} steps", good=not fault)
    start = max((step for step in intact if step < len(log)), default=0) if settings.start is None else settings.start
    if start >= len(log) or start not in {0, *intact}:
        why = f"no step was logged after step {start}" if start >= len(log) else f"checkpoint-{start} is damaged"
        yield Finding("not replayed", why)
        return
    images, accelerator, here = prepared(run)
    for name, before, now in train_state.differences(telling(then), telling(here)):
        yield Finding(name, f"was {before}, is {now}: bits may differ")
    yield from replayed(Trainer(run, images, accelerator), intact, log, start, settings.steps)


def opened(folder: Path) -> tuple[Run, Environment]:
    """The run in `folder`, and where it ran."""
    if lacking := [name for name in ("run.json", "environment.json") if not (folder / name).is_file()]:
        inside = ", ".join(sorted(path.parent.name for path in folder.glob("*/run.json")))
        raise UsageError(f"{folder} is not the folder of a run: it lacks {', '.join(lacking)}{inside and f'; it holds the runs {inside}'}")
    try:
        return config.load_run(folder), strict_json.read(Environment, (folder / "environment.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{folder} cannot be read: {error}") from error


def logged(folder: Path, newest: int) -> tuple[list[Step], str]:
    """The steps of the log up to its first damaged line, and what is wrong with it, or ''; a torn last line was never finished."""
    path, steps = folder / steplog.FILE, list[Step]()
    lines = steplog.written(path)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    try:
        steps.extend(step for step, _ in steplog.entries(path, lines))
    except TrainingError as error:
        return steps, str(error)
    return steps, f"{len(steps):,} steps, fewer than those of checkpoint-{newest}" if len(steps) < newest else ""


def prepared(run: Run) -> tuple[Images, Accelerator, Environment]:
    """The run's images, and where to train."""
    try:
        accelerator = environment.accelerator(run.mixed_precision)
        return training.open_images(run.data, run.seed), accelerator, environment.describe(accelerator)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def telling(where: Environment) -> dict[str, Any]:
    """What decides over bits; how the backend came to be chosen does not."""
    return asdict(where) | {"backend": where.backend.partition(":")[0]}


def replayed(trainer: Trainer, intact: dict[int, Path], log: list[Step], start: int, count: int) -> Iterator[Finding]:
    """Train up to `count` steps again and compare them with the log, and with the checkpoints of these steps."""
    if start in intact:
        trainer.restore(checkpoint.load(intact[start]))
    elif intact:
        train_state.check_same(checkpoint.load(intact[max(intact)]), trainer.state()[1])
    yield Finding("replayed", f"from {intact[start].name if start in intact else 'the beginning'}")
    for was, step in zip(log[start : start + count], trainer.steps(start), strict=False):
        differing = [
            f"{steplog.NAMES[name]} was {getattr(was, name)!r} and is now {getattr(step, name)!r}"
            for name in COMPARED
            if repr(getattr(was, name)) != repr(getattr(step, name))  # NaN is itself
        ]
        yield Finding(f"step {step.step}", "; ".join(differing) or "as it was logged", good=not differing)
        if step.step in intact:
            others = different(checkpoint.load(intact[step.step]), trainer)
            said = f"reached with {len(others)} other tensors, {others[0]} the first" if others else "reached with the same tensors"
            yield Finding(intact[step.step].name, said, good=not others)


def different(saved: Checkpoint, trainer: Trainer) -> list[str]:
    """The tensors, as GROUP.NAME, that are not in every bit what the checkpoint has."""
    now = {f"{group}.{name}": tensor for group, tensors in trainer.state()[0].items() for name, tensor in tensors.items()}
    was = {f"{group}.{name}": tensor for group, tensors in saved.tensors.items() for name, tensor in tensors.items()}
    return [name for name in {**was, **now} if not (name in was and name in now and equal(was[name], now[name]))]


def equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have the same shape, type and bytes."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    first, second = (tensor.detach().cpu().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(first, second)
