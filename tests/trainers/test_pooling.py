"""Assignment within a micro-batch, a window and over two real processes, which find what one process would."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import immref
from immref import KNN, LinearAssignment, Seed, Vanilla, dispatch
from immref_trainers import config, pooling, strict_json
from immref_trainers.config import Evaluation
from immref_trainers.errors import UsageError
from immref_trainers.loop import Trainer

SCRIPT = Path(__file__).parent / "helpers" / "two_processes.py"
STEP = 3  # of the windows that the script pairs
SCOPES = ("batch", "window", "global")

PAIRINGS = {
    "knn": KNN(k=4, scale=2.0),
    "assignment": LinearAssignment(),
    "scaled": LinearAssignment(scale=2.0),
    "sqeuclidean": LinearAssignment("sqeuclidean", scale=2.0),
    "label": LinearAssignment(within="label", scale=2.0),
}
ASSIGNMENTS = ("assignment", "scaled", "sqeuclidean", "label")


@pytest.fixture(scope="module")
def small(tiny):
    """Windows of two micro-batches; four steps."""
    return replace(
        tiny, train_batch_size=16, gradient_accumulation_steps=2, max_train_steps=4, evaluation=Evaluation(at_steps=(4,), num_samples=48)
    )


@pytest.fixture(scope="module")
def runs(small):
    return {name: replace(small, pairing=pairing, assignment_scope="global") for name, pairing in PAIRINGS.items()}


@pytest.fixture(scope="module")
def found(runs, tmp_path_factory):
    """What `helpers/two_processes.py` finds for every run."""
    folder = tmp_path_factory.mktemp("two-processes")
    records = [folder / f"{name}.json" for name in runs]
    for record, run in zip(records, runs.values(), strict=True):
        record.write_text(strict_json.to_json(run), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT, folder / "found", *records]
    environment = os.environ | {"OMP_NUM_THREADS": "1", dispatch.VARIABLE: "auto", dispatch.DEVICE_VARIABLE: "cpu"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "found")


def drawn(x, run, step):
    """The noises of two processes, one below the other."""
    return torch.cat([immref.vanilla(part, rng=Seed(run.seed, step, rank)) for rank, part in enumerate(x.chunk(2))])


def test_two_processes_ran_and_drew_different_noise(found, small, images):
    assert found["processes"] == 2
    noise = drawn(torch.from_numpy(images.train.x[:64]), small, STEP)
    assert not set(noise[:32].flatten().tolist()) & set(noise[32:].flatten().tolist())
    for scope in SCOPES:
        assert sorted(found[f"assignment.{scope}.noise"].flatten(1).tolist()) == sorted(noise.flatten(1).tolist())


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_two_processes_pool_their_noise_as_one_would(found, runs, images, name):
    """Scaling and distances included; the optimum is one, so indices are equal and not costs alone."""
    x, run = torch.from_numpy(images.train.x[:64]), runs[name]
    alone = immref.pair(x, run.pairing, noise=drawn(x, run, STEP), group=images.train.y[:64])
    for part in ("x", "noise", "index"):
        assert torch.equal(found[f"{name}.global.{part}"], getattr(alone, part))
    for part in ("before", "after"):
        band = 64 * torch.finfo(torch.float32).eps  # a mean of 64 in another order
        assert found[f"{name}.global.{part}"].mean().item() == pytest.approx(getattr(alone, part).item(), rel=band)


@pytest.mark.parametrize("name", PAIRINGS)
def test_without_a_pool_each_process_pairs_its_own_window(found, runs, images, name):
    x, labels, run = torch.from_numpy(images.train.x[:64]), images.train.y[:64], runs[name]
    for rank in (0, 1):
        rows = slice(32 * rank, 32 * rank + 32)
        alone = immref.pair(x[rows], run.pairing, group=labels[rows], rng=Seed(run.seed, STEP, rank))
        for scope in ("window",) if name in ASSIGNMENTS else SCOPES:
            for part in ("x", "noise", "index"):
                assert torch.equal(found[f"{name}.{scope}.{part}"][rows], getattr(alone, part))
            assert found[f"{name}.{scope}.after"][rank] == alone.after


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_wider_the_scope_the_nearer_the_noise(found, name):
    after = [found[f"{name}.{scope}.after"].mean().item() for scope in reversed(SCOPES)]
    assert after == sorted(after)
    assert after[-1] < found[f"{name}.window.before"].mean().item()


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_two_processes_train_as_one_that_has_all_images_and_noises(found, runs, images, accelerator, monkeypatch, name):
    """Images, times, noises, gradients and logged means: 2 processes × 2 micro-batches are 1 process × 4."""

    def pair_all(x, labels, run, step, _):
        return immref.pair(x, run.pairing, noise=drawn(x, run, step), group=labels)

    monkeypatch.setattr(pooling, "pair_window", pair_all)
    alone = Trainer(replace(runs[name], gradient_accumulation_steps=4), images, accelerator)
    steps = torch.tensor([[step.loss, step.grad_norm, step.before, step.after] for step in alone.steps()], dtype=torch.float64)
    assert torch.equal(found[f"{name}.weights"][0], found[f"{name}.weights"][1])
    torch.testing.assert_close(found[f"{name}.steps"], steps, rtol=64 * torch.finfo(torch.float32).eps, atol=0)  # sums in another order


@pytest.mark.parametrize("within", ["batch", "label"])
def test_scope_batch_pairs_each_micro_batch_by_itself(small, images, accelerator, within):
    run = replace(small, pairing=LinearAssignment(within=within), assignment_scope="batch")
    x, labels = torch.from_numpy(images.train.x[:32]), images.train.y[:32]
    paired = pooling.pair_window(x, labels, run, 5, accelerator)
    noise = immref.vanilla(x, rng=Seed(run.seed, 5))
    for rows in (slice(0, 16), slice(16, 32)):
        alone = immref.linear_assignment(x[rows], noise[rows], group=labels[rows] if within == "label" else None)
        assert torch.equal(paired.noise[rows], alone)


@pytest.mark.parametrize("pairing", [Vanilla(), KNN(k=4), LinearAssignment()], ids=str)
@pytest.mark.parametrize("scope", ["window", "global"])
def test_one_process_pairs_its_window(small, images, accelerator, pairing, scope):
    x = torch.from_numpy(images.train.x[:32])
    paired = pooling.pair_window(x, None, replace(small, pairing=pairing, assignment_scope=scope), 5, accelerator)
    assert torch.equal(paired.noise, immref.pair(x, pairing, rng=Seed(small.seed, 5)).noise)


def test_micro_batches_and_labels_make_one_group():
    run = config.Run(recipe="digits-flow", train_batch_size=2, pairing=LinearAssignment(within="label"))
    groups = pooling.micro_batches(np.asarray([0, 3, 3, 3, 0, -1]), 6, run)
    assert groups.tolist() == [1, 2, 5, 5, 7, 6]
    assert pooling.micro_batches(np.asarray([0, 3, 3, 3]), 4, replace(run, pairing=LinearAssignment())).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("scope", SCOPES)
def test_labels_that_are_needed_and_missing_are_missed(small, images, accelerator, scope):
    run = replace(small, pairing=LinearAssignment(within="label"), assignment_scope=scope)
    with pytest.raises((TypeError, ValueError), match="group must"):
        pooling.pair_window(torch.from_numpy(images.train.x[:32]), None, run, 0, accelerator)


def test_a_pool_that_no_process_can_solve_is_refused():
    run = config.Run(recipe="digits-flow", train_batch_size=2048, pairing=LinearAssignment(), assignment_scope="global")
    pooling.check(run, 8)
    with pytest.raises(UsageError, match="assignment_scope global would pair 18,432 images at once, 16,384 at most; set window"):
        pooling.check(run, 9)
    pooling.check(replace(run, assignment_scope="window"), 9)
    pooling.check(replace(run, pairing=KNN(k=4)), 9)
