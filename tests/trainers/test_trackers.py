"""A tracker gets the numbers of the step log at one global step; a missing one costs a sentence."""

import json
from types import SimpleNamespace

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker

from immref_trainers import steplog, trackers
from immref_trainers.errors import UsageError
from immref_trainers.loop import Step
from immref_trainers.results import Point, Score
from immref_trainers.trackers import Tracker

STEPS = [Step(n, 1 / n, n / 7, 1e-3, 11.3, 10.7, 0.98, 1.5, 30.1) for n in (1, 2)]
POINT = Point(2, {4: Score(0.1, 0.2, 0.3)})


class Notebook(GeneralTracker):
    """Notes what it is told; as accelerate's own trackers do, it can be told nothing before it was started."""

    name, requires_logging_directory = "notebook", True
    made = ()

    def __init__(self, run_name, logging_dir):
        super().__init__()
        self.where = run_name, logging_dir
        Notebook.made = (*Notebook.made, self)

    def start(self):
        self.tracker = []

    def store_init_configuration(self, values):
        self.tracker.append(values)

    def log(self, values, step=None):
        self.tracker.append((step, values))

    def finish(self):
        self.tracker.append("finished")

    tracker = None


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["notebook"])
    monkeypatch.setattr(Notebook, "made", ())
    return Notebook


def told(report_to, folder, run, accelerator):
    """Log two steps; return what was said on the way."""
    said = []
    with Tracker(report_to, folder, run, accelerator, said.append) as tracker:
        tracker.log(STEPS[0], None)
        tracker.log(STEPS[1], POINT)
    return said


def test_the_settings_and_every_step_arrive_under_the_log_s_names_and_the_tracker_is_closed(notebook, tiny, accelerator, tmp_path):
    assert told("notebook", tmp_path, tiny, accelerator) == []
    (tracker,) = notebook.made
    settings, *steps, last = tracker.tracker
    assert tracker.where == ("digits-flow", tmp_path / "trackers")
    assert json.loads(settings["run"])["max_train_steps"] == tiny.max_train_steps
    assert steps == [(1, steplog.line(STEPS[0], None)), (2, steplog.line(STEPS[1], POINT))]
    assert {"train/loss", "train/lr", "train/grad_norm", "pairing/distance_ratio", "pairing/ms", "eval/fd@4"} <= steps[1][1].keys()
    assert last == "finished"


def test_a_tracker_is_closed_where_training_fails(notebook, tiny, accelerator, tmp_path):
    def failing():
        with Tracker("notebook", tmp_path, tiny, accelerator, print):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert notebook.made[0].tracker[-1] == "finished"


def test_a_missing_package_is_said_once_with_the_line_that_installs_it(monkeypatch, tiny, accelerator, tmp_path):
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    said = told("tensorboard", tmp_path, tiny, accelerator)
    assert said == ["report_to tensorboard: its package is missing, nothing is sent; pip install tensorboard"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_without_a_name_or_in_another_process(notebook, tiny, accelerator, tmp_path):
    assert told(None, tmp_path, tiny, accelerator) == []
    assert told("notebook", tmp_path, tiny, SimpleNamespace(is_main_process=False)) == []
    assert notebook.made == ()


def test_an_unknown_tracker_is_refused_with_the_nearest_name(tiny, accelerator, tmp_path):
    with pytest.raises(UsageError, match=r"report_to must be one of .*tensorboard.*, got 'tensorbord'.*tensorboard"):
        told("tensorbord", tmp_path, tiny, accelerator)
