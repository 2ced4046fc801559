"""metrics.jsonl gives every step back, and a log that does not fit its checkpoint is refused."""

import os
from pathlib import Path

import pytest

from immref_trainers import steplog
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Step
from immref_trainers.results import Point, Score
from immref_trainers.steplog import StepLog

STEPS = [Step(n, 1 / (n + 2), n / 7, 1e-3 / n, 11.3, 10.7, 0.98, 1.5, 30.1) for n in range(1, 6)]
POINTS = {2: Point(2, {4: Score(0.1, 0.2, 0.3), 0: Score(1 / 3, 2.0, 3.0, 0.9, 0.7)}), 4: Point(4, {4: Score(0.01, 0.2, 0.3)})}


def written(folder, count=5):
    with StepLog(folder, 0) as log:
        for step in STEPS[:count]:
            log.append(step, POINTS.get(step.step))
        log.sync()
    return folder / "metrics.jsonl"


@pytest.mark.parametrize("done", range(6))
def test_the_first_steps_come_back_bit_for_bit_and_the_others_are_dropped(tmp_path, done):
    written(tmp_path)
    with StepLog(tmp_path, done) as log:
        assert log.steps == STEPS[:done]
        assert log.points == [point for step, point in POINTS.items() if step <= done]
        for step in STEPS[done:]:
            log.append(step, POINTS.get(step.step))
    again = written(tmp_path / "again" if (tmp_path / "again").mkdir() is None else tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == again.read_bytes()


def test_a_torn_last_line_is_dropped_and_a_torn_line_that_is_needed_is_named(tmp_path):
    file = written(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with StepLog(tmp_path, 4) as log:
        assert len(log.steps) == 4
    file = written(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TrainingError, match=r"metrics\.jsonl is damaged in line 5"):
        StepLog(tmp_path, 5)


def test_a_log_that_knows_less_than_the_checkpoint_is_refused(tmp_path):
    written(tmp_path, 3)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl has 3 lines, fewer than the 4 steps of the checkpoint"):
        StepLog(tmp_path, 4)


def test_lines_out_of_order_are_refused(tmp_path):
    file = written(tmp_path)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[::-1]), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"damaged in line 1: it should be step 1"):
        StepLog(tmp_path, 5)


def test_a_log_that_is_gone_or_not_text_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(TrainingError, match=r"metrics\.jsonl has 0 lines, fewer than the 1 steps of the checkpoint"):
        StepLog(tmp_path, 1)
    file = written(tmp_path)
    data = file.read_bytes()
    for place in (3, len(data) // 2):
        file.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        with pytest.raises(TrainingError, match=r"metrics\.jsonl is damaged in line"):
            StepLog(tmp_path, 5)


def test_the_shortened_log_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    written(tmp_path)
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(steplog.os, "fsync", lambda number: order.append("sync") or sync(number))
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append(f"{path.name} to {target.name}") or replace(path, target))
    StepLog(tmp_path, 3).file.close()
    assert order == ["sync", "metrics.kept to metrics.jsonl"]
