"""TensorBoard, Weights & Biases and what else accelerate knows: the numbers of the step log, one global step."""

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from immref._checks import nearest_name
from immref_trainers import steplog, strict_json
from immref_trainers.config import Run
from immref_trainers.errors import UsageError
from immref_trainers.loop import Step
from immref_trainers.results import Evaluated


def check(report_to: str | None) -> None:
    """A UsageError for a tracker that nobody knows."""
    if report_to is not None and report_to not in LOGGER_TYPE_TO_CLASS:
        known = ", ".join(LOGGER_TYPE_TO_CLASS)
        raise UsageError(f"report_to must be one of {known}, got {report_to!r}{nearest_name(report_to, LOGGER_TYPE_TO_CLASS)}")


class Tracker:
    """The tracker that `report_to` names, as a context; without a name, or where its package is missing, nothing is sent.

    A missing package is said once, through `say`: training goes on without it.
    """

    def __init__(self, report_to: str | None, folder: Path, run: Run, accelerator: Accelerator, say: Callable[[str], None]) -> None:
        self.tracker: Any = None
        if report_to is None or not accelerator.is_main_process:
            return
        check(report_to)
        if report_to not in [str(name) for name in get_available_trackers()]:
            say(f"report_to {report_to}: its package is missing, nothing is sent; pip install {report_to}")
            return
        kind = LOGGER_TYPE_TO_CLASS[report_to]
        where = (folder / "trackers",) if kind.requires_logging_directory else ()
        self.tracker = kind(run.recipe, *where)
        self.tracker.start()
        self.tracker.store_init_configuration({"run": json.dumps(json.loads(strict_json.to_json(run)))})

    def log(self, step: Step, point: Evaluated | None) -> None:
        """Send a step."""
        if self.tracker is not None:
            self.tracker.log(steplog.line(step, point), step=step.step)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.tracker is not None:
            self.tracker.finish()
