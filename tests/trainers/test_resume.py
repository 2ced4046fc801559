"""A run that was interrupted is the run that was not: every kind of run, at every step, bit for bit."""

from dataclasses import asdict, replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from power_cut import QUICK

from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref_trainers import checkpoint, recipes
from immref_trainers.config import Consistency, Objective, Optimizer, Sampler
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Trainer
from immref_trainers.networks.settings import UNet

SMALL = {"block_out_channels": (8,), "norm_num_groups": 4}
TIMES = ("pairing_ms", "step_ms")

KINDS = {
    "flow": {},
    "epsilon": {"objective": Objective("ddpm", "epsilon"), "sampler": Sampler("ddim")},
    "v": {"objective": Objective("ddpm", "v_prediction"), "sampler": Sampler("ddim")},
    "x0": {"objective": Objective("ddpm", "sample"), "sampler": Sampler("ddim")},
    "consistency, with a target network": {
        "objective": Consistency(variant="ct", distance="l2", s0=2, s1=20),
        "sampler": Sampler("multistep"),
        "network": UNet(**SMALL, dropout=0.2),
    },
    "improved consistency": {"objective": Consistency(s0=2, s1=8), "sampler": Sampler("multistep")},
    "two micro-batches": {"train_batch_size": 32, "gradient_accumulation_steps": 2},
    "schedule and dropout": {
        "optimizer": Optimizer(lr_scheduler="cosine", lr_warmup_steps=5, ema_decay=0.3),
        "network": UNet(**SMALL, dropout=0.2),
    },
    "classes": {"network": UNet(**SMALL, class_conditional=True)},
    "bfloat16": {"mixed_precision": "bf16"},
}
PAIRINGS = (Vanilla(), KNN(k=4), LinearAssignment(), ImageScaling(2.0))
CELLS = [(kind, pairing) for kind in KINDS for pairing in (PAIRINGS if kind in ("flow", "epsilon") else (KNN(k=4), LinearAssignment()))]
CELLS += [("classes", LinearAssignment(within="label")), ("two micro-batches", KNN(k=4, score="dot"))]


def plain(step):
    """A step without its times."""
    return {name: value for name, value in asdict(step).items() if name not in TIMES}


def same(state, other):
    """Whether two states are equal in every bit."""
    ours, theirs = ({(group, name): tensor for group in one[0] for name, tensor in one[0][group].items()} for one in (state, other))
    return state[1] == other[1] and ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def precise(accelerator):
    """An accelerator in the precision of a run; accelerate keeps one setting for the whole process, which is put back."""

    def of(run):
        if run.mixed_precision == accelerator.mixed_precision:
            return accelerator
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(cpu=True, mixed_precision=run.mixed_precision)

    yield of
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(cpu=True)


@pytest.mark.parametrize(("kind", "pairing"), CELLS, ids=str)
def test_a_run_goes_on_from_any_step_as_if_nothing_had_happened(tiny, images, precise, tmp_path, kind, pairing):
    run = replace(tiny, pairing=pairing, **KINDS[kind])
    accelerator = precise(run)
    trainer, steps = Trainer(run, images, accelerator), []
    for step in trainer.steps():
        steps.append(plain(step))
        checkpoint.save(tmp_path, step.step, *trainer.state(), disk=QUICK)
    assert len(steps) == run.max_train_steps
    for done in range(1, run.max_train_steps):
        again = Trainer(run, images, accelerator)
        again.restore(checkpoint.load(tmp_path / f"checkpoint-{done}"))
        assert [plain(step) for step in again.steps(done)] == steps[done:]
        assert same(again.state(), trainer.state())


def test_dropout_differs_from_step_to_step_and_precision_makes_a_difference(tiny, images, precise):
    """What the matrix resumes is really there."""
    dropping = replace(tiny, network=UNet(**SMALL, dropout=0.2))
    runs = (tiny, dropping, replace(tiny, mixed_precision="bf16"))
    losses = {tuple(step.loss for step in Trainer(run, images, precise(run)).steps()) for run in runs}
    assert len(losses) == len(runs)


def test_another_run_s_checkpoint_is_refused_and_the_setting_named(tiny, images, accelerator, tmp_path):
    trainer = Trainer(tiny, images, accelerator)
    next(steps := trainer.steps())
    steps.close()
    checkpoint.save(tmp_path, 1, *trainer.state(), disk=QUICK)
    other = Trainer(replace(tiny, pairing=KNN(k=4)), images, accelerator)
    with pytest.raises(TrainingError, match=r"checkpoint-1 is of another run: pairing\.method was 'vanilla' and is now 'knn'"):
        other.restore(checkpoint.load(tmp_path / "checkpoint-1"))


def test_another_number_of_processes_is_refused(tiny, images, accelerator, tmp_path):
    trainer = Trainer(tiny, images, accelerator)
    tensors, records = trainer.state()
    records["trainer"]["processes"] = 8
    checkpoint.save(tmp_path, 0, tensors, records, disk=QUICK)
    with pytest.raises(TrainingError, match="was saved by 8 processes and cannot go on in 1: their noise differs"):
        trainer.restore(checkpoint.load(tmp_path / "checkpoint-0"))


def test_a_recipe_s_default_scope_is_the_window():
    assert {recipe.run().assignment_scope for recipe in recipes.RECIPES.values()} == {"window"}
