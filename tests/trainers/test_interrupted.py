"""`immref train` in a process of its own, killed and stopped by signals, and gone on with: the same bits in the end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

STEPS = 30
ARGV = (
    *("train", "digits-flow", "--max-train-steps", STEPS, "--evaluation.at-steps", 10, STEPS, "--evaluation.num-samples", 48),
    *("--evaluation.sampler-steps", 1, "--train-batch-size", 32, "--network.block-out-channels", 8, "--network.norm-num-groups", 4),
    *("--checkpointing-steps", 1, "--pairing.method", "knn", "--pairing.k", 4),
)
PROGRAM = """
import sys, time
from immref_trainers.metrics import features
from immref_trainers.samplers import priors
from immref_trainers import cli, loop
features.STEPS, priors.MEASURED = 10, 256
follow = loop.Trainer._follow
loop.Trainer._follow = lambda self, step: (time.sleep(0.05), follow(self, step))  # steps that can be met
sys.exit(cli.main(sys.argv[1:]))
"""


def started(folder, *more):
    argv = [sys.executable, "-c", PROGRAM, *map(str, ARGV), "--output-dir", str(folder), *more]
    return subprocess.Popen(argv, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def met(folder, step, child):
    """Wait until so many steps are in the log."""
    log, until = folder / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and len(log.read_bytes().splitlines()) >= step):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def left(folder):
    """What a run leaves, its times aside."""
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    numbers = [{name: value for name, value in step.items() if not name.endswith("ms")} for step in steps]
    return numbers, (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    child = started(folder)
    assert child.communicate()[1] == ""
    assert child.returncode == 0
    return left(folder)


def test_a_run_killed_twice_ends_as_if_nothing_had_happened(tmp_path, whole):
    folder = tmp_path / "run"
    for step, more in ((4, ()), (15, ("--resume-from-checkpoint", "latest"))):
        child = started(folder, *more)
        met(folder, step, child)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    child = started(folder, "--resume-from-checkpoint", "latest")
    said = child.communicate()[0]
    assert child.returncode == 0
    assert "going on from" in said
    assert left(folder) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_ends_well_and_says_how_to_go_on(tmp_path, whole, number):
    folder = tmp_path / "run"
    child = started(folder)
    met(folder, 5, child)
    child.send_signal(number)
    said = child.communicate()[0]
    assert child.returncode == 0
    assert "stopped as asked, and saved; go on with: immref train digits-flow" in said
    assert not (folder / "outcome.json").exists()
    child = started(folder, "--resume-from-checkpoint", "latest")
    child.communicate()
    assert child.returncode == 0
    assert left(folder) == whole
