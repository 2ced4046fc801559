"""`metrics.jsonl`: a line for every step, from which all that a run has to tell can be worked out again after it was resumed."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from immref_trainers.errors import TrainingError
from immref_trainers.loop import Step
from immref_trainers.results import Covered, Evaluated, Point, RolledPoint, Score

FILE = "metrics.jsonl"
NAMES = {  # of a Step's fields, under the names that trackers expect
    "step": "step",
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/lr",
    "step_ms": "train/step_ms",
    "before": "pairing/before",
    "after": "pairing/after",
    "mean_square": "pairing/mean_square",
    "pairing_ms": "pairing/ms",
}


def line(step: Step, point: Evaluated | None) -> dict[str, float]:
    """The numbers of a step, and of the evaluation after it."""
    numbers = {NAMES[name]: value for name, value in asdict(step).items()} | {"pairing/distance_ratio": step.after / step.before}
    for count, score in (point.scores if point else {}).items():
        numbers |= {f"eval/{name}@{count}": value for name, value in asdict(score).items() if value is not None}
    return numbers


def read(text: str) -> tuple[Step, Evaluated | None]:
    """A line's step and evaluation; a ValueError, KeyError or TypeError where it is none."""
    numbers = json.loads(text)
    step = Step(**{name: numbers[column] for name, column in NAMES.items()})
    scores: dict[int, dict[str, float]] = {}
    for column, value in numbers.items():
        if column.startswith("eval/"):
            name, _, count = column.removeprefix("eval/").partition("@")
            scores.setdefault(int(count), {})[name] = value
    if not scores:
        return step, None
    if "solved" in next(iter(scores.values())):
        return step, RolledPoint(step.step, {count: Covered(**views) for count, views in scores.items()})
    return step, Point(step.step, {count: Score(**views) for count, views in scores.items()})


def written(path: Path) -> list[str]:
    """The lines of a log, its last one torn perhaps; none where there is no file."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.is_file() else []


def entries(path: Path, lines: list[str]) -> Iterator[tuple[Step, Evaluated | None]]:
    """What the first lines of the log in `path` say; a TrainingError names the line that is damaged or out of order."""
    for number, text in enumerate(lines, start=1):
        try:
            step, point = read(text)
        except (ValueError, KeyError, TypeError):
            raise TrainingError(f"{path} is damaged in line {number}") from None
        if step.step != number or not text.endswith("\n"):
            raise TrainingError(f"{path} is damaged in line {number}: it should be step {number}")
        yield step, point


class StepLog:
    """The log of a run that has done `done` steps: its first `done` lines stay, what came after them is dropped."""

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / FILE
        self.steps: list[Step] = []
        self.points: list[Evaluated] = []
        lines = written(self.path)[:done] if done else []
        for step, point in entries(self.path, lines):
            self._keep(step, point)
        if len(lines) < done:
            raise TrainingError(f"{self.path} has {len(lines)} lines, fewer than the {done} steps of the checkpoint")
        kept = self.path.with_suffix(".kept")
        with kept.open("w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing in it
        kept.replace(self.path)
        self.file = self.path.open("a", encoding="utf-8")

    def append(self, step: Step, point: Evaluated | None) -> None:
        """Write a step."""
        self._keep(step, point)
        self.file.write(json.dumps(line(step, point)) + "\n")
        self.file.flush()

    def sync(self) -> None:
        """Wait until the lines are on the disk, so that no checkpoint knows more than the log."""
        os.fsync(self.file.fileno())

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def _keep(self, step: Step, point: Evaluated | None) -> None:
        self.steps.append(step)
        if point is not None:
            self.points.append(point)
