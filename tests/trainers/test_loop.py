"""The training loop on a network of seconds: its numbers, and what may and may not change them."""

from dataclasses import asdict, replace
from functools import cache

import pytest
import torch

import immref
from immref import KNN, ImageScaling, LinearAssignment, Vanilla, dispatch
from immref_trainers import pooling, recipes
from immref_trainers.config import Optimizer
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Trainer
from immref_trainers.objectives.regression import Regression

# Losses of 12 steps on the reference backend. They move only with a deliberate change to the loop, the order of the
# images, the draws or the network; the failing test prints the new ones.
GOLDEN = {
    Vanilla(): [1.3436, 1.3119, 1.2003, 1.1843, 1.1274, 1.0881, 1.0485, 1.005, 0.99261, 0.96788, 0.92785, 0.91737],
    KNN(k=4): [1.1238, 1.0857, 1.0132, 0.96254, 0.88281, 0.91445, 0.88922, 0.85317, 0.85418, 0.80845, 0.78509, 0.7922],
    LinearAssignment(): [1.167, 1.126, 1.0564, 1.0295, 0.94262, 0.9174, 0.87973, 0.83616, 0.81424, 0.79308, 0.77361, 0.75653],
}
GOLDEN_DDIM = {
    Vanilla(): [1.1747, 1.089, 0.96027, 0.88593, 0.85282, 0.74948, 0.67835, 0.6506, 0.60387, 0.57164, 0.57742, 0.51887],
    KNN(k=4): [1.018, 0.89678, 0.83487, 0.7275, 0.67758, 0.64165, 0.56017, 0.56239, 0.51916, 0.48855, 0.49087, 0.44794],
    LinearAssignment(): [1.1651, 1.0873, 0.9607, 0.8803, 0.84432, 0.74853, 0.66576, 0.62878, 0.59449, 0.55684, 0.55196, 0.4977],
}
PAIRINGS = tuple(GOLDEN)
RECIPE = recipes.find("digits-ddim").run()
DDIM = {"objective": RECIPE.objective, "sampler": RECIPE.sampler}
each_recipe = pytest.mark.parametrize("settings", [{}, DDIM], ids=["flow", "ddim"])
TIMES = ("pairing_ms", "step_ms")


@pytest.fixture(autouse=True)
def on_the_reference(monkeypatch):
    monkeypatch.setenv(dispatch.VARIABLE, "reference")


@pytest.fixture(scope="module")
def trained(images, accelerator):
    """What each step of a run did, without its times; a run is trained once for all tests that ask for it."""

    @cache
    def steps(run):
        found = Trainer(run, images, accelerator).steps()
        return [{name: value for name, value in asdict(step).items() if name not in TIMES} for step in found]

    return steps


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@pytest.mark.parametrize(("settings", "golden"), [({}, GOLDEN), (DDIM, GOLDEN_DDIM)], ids=["flow", "ddim"])
def test_the_losses_have_not_moved(tiny, trained, settings, golden, pairing):
    losses = [step["loss"] for step in trained(replace(tiny, pairing=pairing, **settings))]
    assert losses == pytest.approx(golden[pairing], rel=1e-3), f"{pairing!r}: {[float(f'{loss:.5g}') for loss in losses]},"


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny, images, accelerator, trained):
    run = replace(tiny, pairing=KNN(k=4))
    again = [(step.loss, step.grad_norm, step.after) for step in Trainer(run, images, accelerator).steps()]
    assert again == [(step["loss"], step["grad_norm"], step["after"]) for step in trained(run)]
    assert trained(replace(run, seed=1))[0]["loss"] != again[0][0]


@each_recipe
@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
def test_two_micro_batches_are_one_batch_of_twice_the_size(tiny, images, trained, pairing, settings):
    tiny = replace(tiny, **settings)
    whole = trained(replace(tiny, pairing=pairing))
    halves = trained(replace(tiny, pairing=pairing, train_batch_size=tiny.train_batch_size // 2, gradient_accumulation_steps=2))
    assert [(step["before"], step["after"]) for step in halves] == [(step["before"], step["after"]) for step in whole]
    numbers = tiny.train_batch_size * images.train.x[0].size  # float32 numbers in a loss, summed in another order
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in halves] == pytest.approx(
            [step[name] for step in whole], rel=tiny.max_train_steps * numbers * torch.finfo(torch.float32).eps
        )


def seen_by(run, images, accelerator, monkeypatch):
    """The weights a run starts from, and the images, times and noise of its steps."""
    batches, plain_loss = [], Regression.loss

    def record(objective, predict, paired, t_B, labels_B, **others):
        batches.append((paired.x, t_B, paired.noise))
        return plain_loss(objective, predict, paired, t_B, labels_B, **others)

    trainer = Trainer(run, images, accelerator)
    weights = flat(trainer.network)
    with monkeypatch.context() as patch:
        patch.setattr(Regression, "loss", record)
        list(trainer.steps())
    return weights, *(torch.stack(values) for values in zip(*batches, strict=True))


@each_recipe
@pytest.mark.parametrize("pairing", [*PAIRINGS[1:], ImageScaling(2.0)], ids=str)
def test_runs_differ_in_their_pairing_alone(tiny, images, accelerator, monkeypatch, pairing, settings):
    tiny = replace(tiny, **settings)
    weights, x, t, noise = seen_by(tiny, images, accelerator, monkeypatch)
    weights_too, x_too, t_too, paired = seen_by(replace(tiny, pairing=pairing), images, accelerator, monkeypatch)
    assert torch.equal(weights, weights_too)
    assert torch.equal(pairing.scale * x, x_too)
    assert torch.equal(t, t_too)
    assert torch.equal(noise, paired) == (pairing.method == "vanilla")
    if pairing.method == "linear_assignment":
        assert [sorted(step) for step in noise.flatten(2).tolist()] == [sorted(step) for step in paired.flatten(2).tolist()]


def test_the_average_warms_up_and_then_keeps_its_decay(tiny, images, accelerator):
    trainer = Trainer(replace(tiny, optimizer=Optimizer(ema_decay=0.4)), images, accelerator)
    decays = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, *[0.4] * (tiny.max_train_steps - 5)]
    mean = flat(trainer.average)
    assert torch.equal(mean, flat(trainer.network))
    for step, decay in zip(trainer.steps(), decays, strict=True):
        mean = decay * mean + (1 - decay) * flat(trainer.network)
        rounding = 4 * step.step * torch.finfo(torch.float32).eps * mean.abs().max()
        assert (flat(trainer.average) - mean).abs().max() <= rounding


def flat(network):
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tiny, images, accelerator):
    finished = 0
    steps = Trainer(replace(tiny, optimizer=Optimizer(learning_rate=1e30)), images, accelerator).steps()
    with pytest.raises(TrainingError) as stopped:  # noqa: PT012
        for step in steps:
            finished = step.step
    assert finished >= 1
    assert f"at step {finished + 1} with learning rate 1e+30" in str(stopped.value)


def test_the_norm_is_taken_before_clipping_and_clipping_holds_the_weights_back(tiny, trained):
    free, held = (trained(replace(tiny, optimizer=Optimizer(max_grad_norm=norm))) for norm in (1e9, 1e-9))
    assert free[0] == held[0]
    assert free[-1]["loss"] < held[-1]["loss"]


def test_within_labels_the_loop_hands_the_labels_of_its_images_on(tiny, images, accelerator, monkeypatch):
    """Each step's noises move among images of one label: told by the labels of the rows that the step saw."""
    seen, pair = [], immref.pair
    monkeypatch.setattr(pooling.immref, "pair", lambda x, pairing, **how: seen.append((x, how["group"])) or pair(x, pairing, **how))
    run = replace(tiny, pairing=LinearAssignment(within="label"))
    steps = [step.after < step.before for step in Trainer(run, images, accelerator).steps()]
    assert all(steps)
    label_of = {image.tobytes(): label for image, label in zip(images.train.x, images.train.y, strict=True)}
    for x, group in seen:
        assert group.tolist() == [label_of[image.tobytes()] for image in x.numpy()]
