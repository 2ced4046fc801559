"""The losses against predictors that are exactly right, and against the contract that judges other people's steps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import immref
from immref import KNN, ImageScaling, LinearAssignment, Paired, Seed, Vanilla, schedules
from immref.diffusion import per_sample, recover, target
from immref_spec.contracts import ContractError, check_training_step
from immref_trainers import objectives
from immref_trainers.config import PREDICTIONS, Objective

PAIRINGS = (Vanilla(), KNN(k=4), LinearAssignment(), ImageScaling(2.0), KNN(k=8, scale=2.0))
OBJECTIVES = (
    Objective(),
    *(Objective("ddpm", prediction) for prediction in PREDICTIONS["ddpm"]),
    Objective("ddpm", "epsilon", beta_schedule="squaredcos_cap_v2", num_train_timesteps=100),
    Objective("ddpm", "v_prediction", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
)
names = [f"{one.method} {one.prediction} {one.beta_schedule}" for one in OBJECTIVES]
each_objective = pytest.mark.parametrize("settings", OBJECTIVES, ids=names)
each_pairing = pytest.mark.parametrize("pairing", PAIRINGS, ids=str)


@pytest.fixture
def batch(images):
    return torch.from_numpy(images.train.x[:32])


def some_times(objective, seed=0):
    return torch.from_numpy(objective.times(np.random.default_rng(seed), 32, 0))


def perfect(objective, paired):
    """The predictor that knows each image's noise."""
    return lambda x_t, t_B, labels_B: target(objective.prediction, paired.x, paired.noise, *objective.coefficients(t_B))


@each_pairing
@each_objective
def test_the_perfect_predictor_has_no_loss(batch, settings, pairing):
    objective = objectives.build(settings, batch)
    paired = immref.pair(batch, pairing, rng=Seed(0))
    assert objective.loss(perfect(objective, paired), paired, some_times(objective)).item() == 0.0


@each_pairing
@each_objective
def test_the_noise_that_corrupts_is_the_noise_in_the_target(batch, settings, pairing):
    """The noise is solved for from x_t and the image; from the two of them the loss must come out as zero."""
    objective = objectives.build(settings, batch.double())
    paired = immref.pair(batch.double(), pairing, rng=Seed(0))
    t_B = some_times(objective)

    def from_x_t(x_t, t_B, labels_B):
        a_B, b_B = objective.coefficients(t_B)
        noise = recover("sample", paired.x, x_t, a_B, b_B)[1]
        return target(objective.prediction, paired.x, noise, a_B, b_B)

    least_b = objective.coefficients(t_B)[1].min().item()
    largest = max(paired.x.abs().max().item(), paired.noise.abs().max().item())
    rounding = 8 * torch.finfo(torch.float64).eps * largest / least_b  # eight roundings, enlarged by 1 / b
    assert objective.loss(from_x_t, paired, t_B).item() <= rounding**2


@each_objective
def test_noise_that_changed_places_between_corruption_and_target_shows(batch, settings):
    """The least that neighbours may differ by is measured; without the move the loss is zero."""
    objective = objectives.build(settings, batch)
    paired = immref.pair(batch, KNN(k=4), rng=Seed(0))
    moved = Paired(paired.x.roll(1, 0), paired.noise.roll(1, 0), paired.index, paired.before, paired.after)
    t_B = some_times(objective)
    a_B, b_B = (per_sample(value, batch) for value in objective.coefficients(t_B))
    weight_x, weight_n = {"epsilon": (0, 1), "sample": (1, 0), "velocity": (1, 1), "v_prediction": (b_B, a_B)}[settings.prediction]
    apart = weight_x * (paired.x - moved.x), weight_n * (paired.noise - moved.noise)
    expected = sum(torch.as_tensor(part).square().mean().item() for part in apart)
    assert objective.loss(perfect(objective, paired), moved, t_B).item() > 0.8 * expected > 0.1


@each_objective
def test_the_network_is_asked_at_the_time_that_corrupts(batch, settings):
    """In diffusers' units: whole training steps as they are, flow matching's t in thousandths."""
    objective = objectives.build(settings, batch)
    paired = immref.pair(batch, Vanilla(), rng=Seed(0))
    t_B, asked = some_times(objective), []

    def network(x_t, time_B):
        asked.append((x_t, time_B))
        return SimpleNamespace(sample=x_t)

    objective.loss(objective.predictor(network), paired, t_B)
    (x_t, time_B), (a_B, b_B) = asked[0], objective.coefficients(t_B)
    assert torch.equal(x_t, per_sample(a_B, batch) * paired.x + per_sample(b_B, batch) * paired.noise)
    if settings.method == "flow":
        assert torch.equal(time_B, 1000 * t_B)
    else:
        assert time_B.dtype == torch.int64
        assert torch.equal(time_B, t_B)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("settings", OBJECTIVES[1:], ids=names[1:])
def test_tables_are_those_of_the_schedule_rounded_once(settings, dtype):
    objective = objectives.build(settings, torch.zeros(1, dtype=dtype))
    betas = () if settings.beta_schedule == "squaredcos_cap_v2" else (settings.beta_start, settings.beta_end)
    alpha_bar = schedules.alpha_bar(settings.beta_schedule, settings.num_train_timesteps, *betas)
    found = objective.coefficients(torch.arange(settings.num_train_timesteps))
    for ours, exact in zip(found, (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)), strict=True):
        assert torch.equal(ours, torch.from_numpy(exact).to(dtype))


@each_objective
def test_every_time_is_drawn_equally_often(batch, settings):
    """A chi-square test of 50 equal parts at 2 million draws; one false alarm in 1e9."""
    times = objectives.build(settings, batch).times(np.random.default_rng(0), 2_000_000, 0)
    whole = 1 if settings.method == "flow" else settings.num_train_timesteps
    counts, _ = np.histogram(times, bins=50, range=(0, whole))
    assert counts.sum() == len(times)
    square = np.sum((counts - len(times) / 50) ** 2) / (len(times) / 50)
    assert square < 133.3  # scipy.stats.chi2(49).isf(1e-9)
    if settings.method == "ddpm":
        assert np.array_equal(np.unique(times), np.arange(whole))


def step_of(settings, pairing):
    """One step of our training as a function of (images, tags, predictor)."""
    rng = np.random.default_rng(0)

    def step(x, cond, predictor):
        objective = objectives.build(settings, x)
        paired = immref.pair(x, pairing, rng=Seed(int(rng.integers(2**63))))

        def network(x_t, time_B):
            return SimpleNamespace(sample=predictor(x_t, time_B, cond))

        t_B = torch.from_numpy(objective.times(rng, len(x), 0))
        return objective.loss(objective.predictor(network), paired, t_B)

    return step


def claim(settings):
    """What the contract is told about an objective."""
    if settings.method == "flow":
        return {"schedule": schedules.flow, "prediction": "velocity", "time_units": 1000.0}
    return {"schedule": settings.alpha_bar(), "prediction": settings.prediction}


@each_pairing
@each_objective
def test_our_steps_keep_the_contract(settings, pairing):
    report = check_training_step(step_of(settings, pairing), x=torch.zeros(8, 1, 8, 8), scale=pairing.scale, **claim(settings))
    assert report.loss < report.band


@pytest.mark.parametrize("prediction", [name for name in PREDICTIONS["ddpm"] if name != "epsilon"])
def test_a_step_with_another_target_breaks_the_contract(prediction):
    with pytest.raises(ContractError, match=f"the target is that of prediction '{prediction}', not of 'epsilon'"):
        check_training_step(
            step_of(Objective("ddpm", prediction), Vanilla()), x=torch.zeros(8, 1, 8, 8), **claim(Objective("ddpm", "epsilon"))
        )
