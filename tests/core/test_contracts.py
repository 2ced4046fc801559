"""`check_training_step` on NumPy steps: right ones pass, wrong ones are named, and blind spots are blind.

A step is made by `make`: what it does right is the default, what a mutant does wrong is one replaced part.
"""

import subprocess
import sys
from functools import partial
from itertools import count

import array_api_strict as xp
import numpy as np
import pytest

import immref
from immref_spec.contract_oracle import CALLS, FEWEST_IMAGES
from immref_spec.contracts import ContractError, check_training_step

X = np.zeros((8, 3, 8, 8), dtype=np.float32)
ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
TARGETS = {
    "epsilon": lambda x, n, a, b: n,
    "v_prediction": lambda x, n, a, b: a * n - b * x,
    "sample": lambda x, n, a, b: x,
}
PAIRINGS = (immref.Vanilla(), immref.KNN(k=8), immref.LinearAssignment(), immref.KNN(k=4, scale=2.0))


def same(value, rng):
    return value


def shuffled(value, rng):
    return value[rng.permutation(len(value))]


def mean_square(residual, t):
    return np.mean(residual.astype(np.float64) ** 2)  # float16 squares overflow


def make(
    prediction="epsilon",
    pairing=PAIRINGS[0],
    corrupting=same,  # the noise that corrupts, from the noise in the target
    imaged=same,  # the images that are corrupted, from those in the target
    conditioned=same,
    told=same,  # the t that the network gets, from the t that corrupts
    coefficients=lambda a, b: (a, b),
    target=None,
    loss=mean_square,
    seed=0,
):
    """A DDPM step in float32 whose parts can be replaced by wrong ones."""
    rng, draws = np.random.default_rng(seed), count()

    def step(x, cond, predictor):
        paired = immref.pair(x, pairing, rng=immref.Seed(seed, step=next(draws)))
        x, n, t = paired.x, paired.noise, rng.integers(1, 999, len(x))
        alpha_bar = ALPHA_BAR.astype(x.dtype)[t].reshape(-1, *(1,) * (x.ndim - 1))
        a, b = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
        used_a, used_b = coefficients(a, b)
        x_t = used_a * imaged(x, rng) + used_b * corrupting(n, rng)
        wanted = (target or TARGETS[prediction])(x, n, a, b)
        return loss(predictor(x_t, told(t, rng), conditioned(cond, rng)) - wanted, t)

    return step


def flow(pairing=PAIRINGS[1], data_at_one=True, units=1.0, corrupting=same, target=None):
    """A flow-matching step in float32, in either convention of time."""
    rng, draws = np.random.default_rng(0), count()

    def step(x, cond, predictor):
        paired = immref.pair(x, pairing, rng=immref.Seed(1, step=next(draws)))
        x, n, t = paired.x, paired.noise, rng.random(len(x), dtype=np.float32)
        a = (t if data_at_one else 1 - t)[:, None, None, None]
        wanted = target(x, n) if target else (x - n if data_at_one else n - x)
        return mean_square(predictor(a * x + (1 - a) * corrupting(n, rng), t * np.float32(units), cond) - wanted, t)

    return step


def judge(step, prediction="epsilon", **arguments):
    return check_training_step(step, **{"x": X, "schedule": ALPHA_BAR, "prediction": prediction} | arguments)


def flow_schedule(t):
    return t, 1 - t


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@pytest.mark.parametrize("prediction", TARGETS)
def test_a_right_step_passes_under_every_pairing(prediction, pairing):
    report = judge(make(prediction, pairing), prediction, scale=pairing.scale)
    assert report.loss < report.band < 1e-3


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@pytest.mark.parametrize("units", [1.0, 1000.0])
def test_flow_matching_passes_in_both_conventions(pairing, units):
    arguments = {"scale": pairing.scale, "time_units": units}
    judge(flow(pairing, True, units), "velocity", schedule=flow_schedule, **arguments)
    judge(flow(pairing, False, units), "velocity", schedule=lambda t: (1 - t, t), **arguments)


def test_a_curved_schedule_s_velocity_is_its_derivative():
    """Trigonometric paths: a' = π/2 cos, b' = -π/2 sin of the angle, far below float64's resolution of 1e-8."""
    rng = np.random.default_rng(0)

    def step(x, cond, predictor):
        t, n = rng.random(len(x)), rng.standard_normal(x.shape)
        sine, cosine = np.sin(np.pi / 2 * t)[:, None], np.cos(np.pi / 2 * t)[:, None]
        return np.sum((predictor(sine * x + cosine * n, t, cond) - np.pi / 2 * (cosine * x - sine * n)) ** 2)

    schedule = lambda t: (np.sin(np.pi / 2 * t), np.cos(np.pi / 2 * t))  # noqa: E731
    assert judge(step, "velocity", x=np.zeros((4, 9)), schedule=schedule).resolution < 1e-6


LOSSES = {
    "min-SNR": lambda r, t: np.mean(np.minimum(1, 5 * (1 - ALPHA_BAR[t]) / ALPHA_BAR[t]) * np.mean(r**2, axis=(1, 2, 3))),
    "sum": lambda r, t: np.sum(r**2),
    "a tiny weight": lambda r, t: 1e-12 * np.mean(r**2),
    "absolute": lambda r, t: np.mean(np.abs(r)),
    "pseudo-Huber": lambda r, t: np.mean(np.sqrt(np.sum(r**2, axis=(1, 2, 3)) + np.float32(0.01)) - np.float32(0.1)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_and_reductions_cancel(loss):
    judge(make(loss=LOSSES[loss]))
    with pytest.raises(ContractError, match="not the noise in the target"):
        judge(make(loss=LOSSES[loss], corrupting=shuffled))


def test_micro_batches_and_self_conditioning_may_call_the_predictor_several_times():
    whole = make()

    def twice(x, cond, predictor):
        def self_conditioned(*arguments):
            predictor(*arguments)
            return predictor(*arguments)

        return sum(whole(x[rows], cond[rows], self_conditioned) for rows in (slice(0, 3), slice(3, None)))

    judge(twice)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_the_band_follows_the_precision(kind):
    report = judge(make(), x=X[:4].astype(kind))
    assert report.resolution >= np.sqrt(np.finfo(kind).eps / 2)
    with pytest.raises(ContractError, match="not the noise in the target"):
        judge(make(corrupting=shuffled), x=X[:4].astype(kind))


def test_array_api_strict_has_nothing_that_the_check_lacks():
    rng = np.random.default_rng(0)

    def step(x, cond, predictor):
        t, n = (xp.asarray(rng.random(shape, dtype=np.float32)) for shape in (x.shape[0], x.shape))
        return xp.mean((predictor(t[:, None] * x + (1 - t[:, None]) * n, t, cond) - (x - n)) ** 2)

    judge(step, "velocity", x=xp.zeros((5, 7), dtype=xp.float32), schedule=flow_schedule)


def without_offset(x, cond, predictor):
    return -make()(x, cond, predictor) - 1


def in_place(x, cond, predictor):
    x *= 2
    return make()(x, cond, predictor)


def predictor_unused(x, cond, predictor):
    return make()(x, cond, lambda x_t, t, cond: x_t)


def last_image_dropped(x, cond, predictor):
    return make()(x[:-1], cond[:-1], predictor)


def conditions_dropped(x, cond, predictor):
    return make()(x, np.where(cond < 3, 0, cond), predictor)


def arguments_turned(x, cond, predictor):
    return make()(x, cond, lambda x_t, t, cond: predictor(t, x_t, cond))


def one_time_for_all(x, cond, predictor):
    return make()(x, cond, lambda x_t, t, cond: predictor(x_t, t[:1], cond))


MUTANTS = {
    "noise permuted when corrupting, not in the target": (make(corrupting=shuffled), {}, "not the noise in the target"),
    "the same under v": (make("v_prediction", corrupting=shuffled), {"prediction": "v_prediction"}, "not the noise in the target"),
    "the same in a flow": (
        flow(corrupting=shuffled),
        {"prediction": "velocity", "schedule": flow_schedule},
        "not the noise in the target",
    ),
    "another noise is drawn for x_t": (
        make(corrupting=lambda n, rng: rng.standard_normal(n.shape, dtype=n.dtype)),
        {},
        "permuted or drawn again",
    ),
    "noise permuted in every call alike": (make(corrupting=lambda n, rng: np.roll(n, 1, axis=0)), {}, "not the noise in the target"),
    "conditions permuted": (make(conditioned=shuffled), {}, "conditions do not belong to their images"),
    "images permuted, conditions not": (make(imaged=shuffled), {}, "images were reordered"),
    "images permuted under 'sample', which the loss cannot see": (
        make("sample", imaged=shuffled),
        {"prediction": "sample"},
        "images were reordered",
    ),
    "the target of v where epsilon is said": (make("v_prediction"), {}, "that of prediction 'v_prediction', not of 'epsilon'"),
    "the target of epsilon where sample is said": (make("epsilon"), {"prediction": "sample"}, "that of prediction 'epsilon'"),
    "n - x where x - n is said": (
        flow(target=lambda x, n: n - x),
        {"prediction": "velocity", "schedule": flow_schedule},
        "opposite sign",
    ),
    "time runs the other way": (
        flow(data_at_one=False),
        {"prediction": "velocity", "schedule": flow_schedule},
        "changed places",
    ),
    "time for the network in thousandths": (
        flow(units=1000.0),
        {"prediction": "velocity", "schedule": flow_schedule},
        "pass time_units=1000",
    ),
    "alpha-bar for its root at the image": (make(coefficients=lambda a, b: (a**2, b)), {}, "square root belongs, at the image"),
    "1 - alpha-bar for its root at the noise": (make(coefficients=lambda a, b: (a, b**2)), {}, "square root belongs, at the noise"),
    "another schedule": (make(coefficients=lambda a, b: (a**4, b)), {}, "schedule is another one"),
    "the network's t is one less": (make(told=lambda t, rng: t - 1), {}, "off by one, x_t is made at t [+] 1"),
    "the network's t is another draw": (make(told=lambda t, rng: rng.integers(0, 1000, len(t))), {}, "not the t that corrupts"),
    "the network's t leaves the table": (make(told=lambda t, rng: t + 500), {}, "places 0 … 999 of the table"),
    "scaled images, not said": (make(pairing=PAIRINGS[3]), {}, "pass scale=2"),
    "scaled images in x_t, unscaled in the target": (
        make("v_prediction", PAIRINGS[3], target=lambda x, n, a, b: a * n - b * x / 2),
        {"prediction": "v_prediction", "scale": 2.0},
        "image without its scale",
    ),
    "the loss compares noise with nothing": (make(loss=lambda r, t: np.mean(np.random.default_rng(t).random(9))), {}, "does not depend"),
    "the loss is a constant": (make(loss=lambda r, t: 0.5), {}, "does not depend"),
    "the loss is zero times something": (make(loss=lambda r, t: 0 * mean_square(r, t)), {}, "does not depend"),
    "an offset": (make(loss=lambda r, t: 1 + mean_square(r, t)), {}, "a term that is not zero"),
    "a sign": (without_offset, {}, "without offset or sign"),
    "NaN": (make(loss=lambda r, t: np.nan), {}, "finite"),
    "a loss for each image": (make(loss=lambda r, t: np.mean(r**2, axis=(1, 2, 3))), {}, "one number"),
    "x changed in place": (in_place, {}, "changes x in place"),
    "the predictor is not called": (predictor_unused, {}, "never called"),
    "an image is left out": (last_image_dropped, {}, "7 of 8 images"),
    "conditions are dropped": (conditions_dropped, {}, "dropping of conditions"),
    "t and x_t have changed places": (arguments_turned, {}, "must get x_t like the images"),
    "one t for all": (one_time_for_all, {}, "one t for each row"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_step_is_told_what_is_wrong(name):
    step, arguments, words = MUTANTS[name]
    with pytest.raises(ContractError, match=words):
        judge(step, **arguments)


def test_half_precision_that_drowns_the_noise_is_not_judged():
    """Times so early that b < .02: half precision knows x_t to about b / 20."""
    early = np.full(8, 3)
    alpha_bar = ALPHA_BAR[3]

    def step(x, cond, predictor):
        n = np.random.default_rng(0).standard_normal(x.shape).astype(x.dtype)
        a, b = (np.sqrt(value).astype(x.dtype) for value in (alpha_bar, 1 - alpha_bar))
        return mean_square((predictor(a * x + b * n, early, cond) - n).astype(np.float32), early)

    judge(step)
    with pytest.raises(ContractError, match=rf"^0 of \d+ calls could be judged, {CALLS} are wanted.*give x in float32"):
        judge(step, x=X.astype(np.float16))


def test_where_b_is_zero_only_the_image_can_be_judged():
    schedule, ends = (lambda t: (1 - t, t)), np.linspace(0, 1, len(X), dtype=np.float32)

    def step(x, cond, predictor, prediction):
        n, t = np.random.default_rng(0).standard_normal(x.shape, dtype=x.dtype), ends[:, None, None, None]
        return mean_square(predictor((1 - t) * x + t * n, ends, cond) - TARGETS[prediction](x, n, 1 - t, t), ends)

    judge(partial(step, prediction="sample"), "sample", schedule=schedule)
    with pytest.raises(ContractError, match=r"^0 of \d+ calls could be judged"):
        judge(partial(step, prediction="epsilon"), schedule=schedule)


BLIND = {
    "vanilla noise where pairing was meant": ("epsilon", make()),
    "noise far from the images": ("epsilon", make(corrupting=lambda n, rng: 3 * n, target=lambda x, n, a, b: 3 * n)),
    "the same noise in every call": ("epsilon", make(corrupting=lambda n, rng: 0 * n + 1, target=lambda x, n, a, b: 0 * n + 1)),
    "noise permuted under 'sample', whose target has none": ("sample", make("sample", corrupting=shuffled)),
    "another schedule under 'sample'": ("sample", make("sample", coefficients=lambda a, b: (a**2, b))),
}


@pytest.mark.parametrize("name", BLIND)
def test_blind_spots_are_blind(name):
    prediction, step = BLIND[name]
    judge(step, prediction)


def test_the_report_says_what_was_found_and_what_cannot_be_seen():
    report = judge(make("sample"), "sample")
    lines = str(report).splitlines()
    assert lines[0].startswith("The training step is right: loss 0 ")
    assert f"mean square {report.mean_square:.3g}" in lines[1]
    assert report.mean_square == pytest.approx(1, abs=5 * np.sqrt(2 / (CALLS * X.size)))  # five standard deviations
    assert [line for line in lines if line.startswith("- ")] == [f"- {line}" for line in report.checked + report.unseen]
    assert any("pairing chose well" in line for line in report.unseen)
    assert any("'sample' holds none" in line for line in report.unseen)
    assert not any("'sample'" in line for line in judge(make()).unseen)


def test_a_target_that_is_off_by_more_than_the_resolution_is_seen():
    resolution = judge(make()).resolution
    for times, seen in ((0.1, False), (10.0, True)):
        step = make(target=lambda x, n, a, b, off=times * resolution: n + n.dtype.type(off))
        if seen:
            with pytest.raises(ContractError):
                judge(step)
        else:
            judge(step)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"step": None}, TypeError, "step must be a callable"),
        ({"x": X[:2]}, ValueError, f"at least {FEWEST_IMAGES} images"),
        ({"x": X.astype(np.int64)}, TypeError, "real floating array"),
        ({"prediction": "eps"}, ValueError, "prediction must be one of epsilon"),
        ({"prediction": "velocity"}, ValueError, "must be a callable"),
        ({"scale": 0.0}, ValueError, "scale must be finite and > 0"),
        ({"time_units": 0}, ValueError, "time_units must be a number, finite and > 0"),
        ({"schedule": np.linspace(1e-4, 0.02, 1000)}, ValueError, "falls from 1 towards 0"),
        ({"schedule": lambda t: ALPHA_BAR[t]}, ValueError, "must return a and b"),
    ],
)
def test_wrong_arguments_of_the_check_itself(arguments, kind, words):
    with pytest.raises(kind, match=words):
        judge(**{"step": make()} | arguments)


def test_the_check_loads_no_torch():
    code = "import sys, immref_spec.contracts; print('torch' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
