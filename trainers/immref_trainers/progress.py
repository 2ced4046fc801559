"""What a long command shows while it runs: a bar with an ETA on a terminal, a line per evaluation in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from immref.miscibility import distance_drop
from immref_trainers.loop import Step
from immref_trainers.results import Evaluated


class TrainingProgress:
    """Progress over all training steps of a command; a context manager."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.label, self.before, self.seen = console, total, "", 0, 0
        self.began = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, gone"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=120,
        )
        self.task = self.bar.add_task("training", total=total)

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def start_run(self, label: str, before: int = 0) -> None:
        """Name the run whose steps follow, and how many steps lie before its first."""
        self.label, self.before = label, before
        self.bar.update(self.task, description=label, completed=before)

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""
        self.console.print(sentence, highlight=False)

    def watch(self, step: Step, point: Evaluated | None) -> None:
        """Count a step; report an evaluation."""
        done = self.before + step.step
        self.seen += 1
        self.bar.update(self.task, completed=done)
        if point is None:
            return
        left = (time.monotonic() - self.began) / self.seen * (self.total - done)
        self.console.print(
            f"{self.label}: step {step.step}, {point} · "
            f"distance {distance_drop(step.before, step.after):+.1%}, {step.pairing_ms:.1f} ms"
            + ("" if self.console.is_terminal else f" · {duration(left)} left"),
            highlight=False,
        )


def duration(seconds: float) -> str:
    """'2 min 05 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
