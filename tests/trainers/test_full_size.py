"""The paper's networks on real formats: two real steps at batch 2, stopped, gone on with, judged and sampled."""

import numpy as np
import pytest
from console import command
from formats import ALL, binary, folders, shard, table

from immref_trainers import train
from immref_trainers.data import cifar
from immref_trainers.metrics import tasks
from immref_trainers.samplers import priors
from immref_trainers.signals import Stop
from immref_trainers.steplog import StepLog

LARGE = np.random.default_rng(1).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
SETTINGS = (
    *("--max-train-steps", 2, "--train-batch-size", 2, "--evaluation.at-steps", 2, "--evaluation.num-samples", 4),
    *("--evaluation.temperatures", 0.99, "--checkpoints-total-limit", 1),
)


def class_folders(path):
    for split in ("train", "test"):
        folders(path / split, LARGE)


def parquet(path):
    for split in ("train", "test"):
        table(path, f"{split}.parquet", pixels=LARGE)


def shards(path):
    for split in ("train", "test"):
        shard(path, ALL, f"{split}-0.tar", pixels=LARGE)


class Asked(Stop):
    """Somebody has pressed Ctrl-C already."""

    def __enter__(self):
        self.asked = True
        return self


@pytest.mark.parametrize(
    ("recipe", "steps", "write"),
    [
        ("cifar10-ddim", 2, class_folders),
        ("cifar10-consistency", 1, binary),
        ("cifar10-flow", 2, parquet),
        ("cifar10-flow", 2, shards),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_full_size_recipe_trains_from_its_format_stops_goes_on_is_judged_and_sampled(tmp_path, monkeypatch, capsys, recipe, steps, write):
    monkeypatch.setattr(cifar, "RECORDS", 4)
    monkeypatch.setattr(tasks, "STEPS", 2)
    monkeypatch.setattr(priors, "MEASURED", 8)
    write(tmp_path / "data")
    folder = tmp_path / "run"
    argv = ("train", recipe, "--data.train-data-dir", tmp_path / "data", *SETTINGS, "--evaluation.sampler-steps", steps)
    with monkeypatch.context() as patch:
        patch.setattr(train, "Stop", Asked)
        assert command(monkeypatch, *argv, "--output-dir", folder) == 0
    assert "stopped as asked, and saved" in capsys.readouterr().out
    assert (folder / "checkpoint-1").is_dir()
    assert command(monkeypatch, *argv, "--output-dir", folder, "--resume-from-checkpoint", "latest") == 0
    with StepLog(folder, 2) as log:
        assert [step.step for step in log.steps] == [1, 2]
        assert [point.step for point in log.points] == [2]
        assert np.isfinite(log.points[0].scores[steps].fd)
    assert command(monkeypatch, "sample", folder, "--num-samples", 2, "--steps", 2, "--output-dir", tmp_path / "samples") == 0
    assert (tmp_path / "samples" / "grid.png").exists()
