"""Diffusion arithmetic and schedules by hand, their errors, and wrong versions that the laws must reject."""

import math

import numpy as np
import pytest

from immref import diffusion, reference, schedules
from immref_spec import subjects
from immref_spec.judging import judge

X, NOISE = np.asarray([[4.0, 0.0], [1.0, 1.0]]), np.asarray([[0.0, -2.0], [-3.0, 1.0]])
A, B = np.asarray([0.75, 0.5]), np.asarray([0.25, 0.5])
MIXED = [[3.0, -0.5], [-1.0, 1.0]]  # ¾ x + ¼ n and ½ x + ½ n


def test_figure_2_adds_a_weighted_noise_and_does_not_normalise():
    assert diffusion.perturb(NOISE, X, 0.5).tolist() == [[2.0, -2.0], [-2.5, 1.5]]
    assert diffusion.perturb(NOISE, X, np.asarray([0.25, 1.0])).tolist() == [[1.0, -2.0], [-2.0, 2.0]]


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ("epsilon", NOISE.tolist()),
        ("sample", X.tolist()),
        ("v_prediction", [[-1.0, -1.5], [-2.0, 0.0]]),  # ¾ n - ¼ x and ½ n - ½ x
        ("velocity", [[4.0, 2.0], [4.0, 0.0]]),
    ],
)
def test_a_target_and_what_it_stands_for(prediction, wanted):
    mixed = diffusion.corrupt(X, NOISE, A, B)
    target = diffusion.target(prediction, X, NOISE, A, B)
    assert mixed.tolist() == MIXED
    assert target.tolist() == wanted
    x, noise = diffusion.recover(prediction, target, mixed, A, B)
    assert x == pytest.approx(X, abs=1e-15)
    assert noise == pytest.approx(NOISE, abs=1e-15)


def test_equation_2_of_a_predicted_noise_that_is_wrong():
    # (x_t - b p) / a = (3 - ¼ · 4) / ¾ = 8/3, and (-1 - ½ · 0) / ½ = -2
    x, noise = diffusion.recover("epsilon", np.asarray([[4.0], [0.0]]), np.asarray(MIXED)[:, :1], A, B)
    assert x.ravel() == pytest.approx([8 / 3, -2.0])
    assert noise.ravel().tolist() == [4.0, 0.0]


def test_a_ddim_step_mixes_the_predicted_image_and_noise_anew():
    # at (¾, ¼), x_t = 3, p = 1: x = (3 - ¼) / ¾ = 11/3; at (½, ½): 11/6 + 1/2 = 7/3
    step = diffusion.ddim_step("epsilon", np.asarray([[1.0]]), np.asarray([[3.0]]), 0.75, 0.25, 0.5, 0.5)
    assert step.item() == pytest.approx(7 / 3)


def test_on_the_flow_a_step_is_euler_s():
    x_t, speed = np.asarray([[3.0, -0.5]]), np.asarray([[1.0, 2.0]])
    step = diffusion.ddim_step("velocity", speed, x_t, *schedules.flow(0.25), *schedules.flow(0.75))
    assert step == pytest.approx(x_t + 0.5 * speed)


def test_at_sigma_a_step_is_karras_s_euler():
    # x + σ n at σ = 2 with the denoised image D: x' = x_t + (σ' - σ) (x_t - D) / σ
    x_t, denoised = np.asarray([[5.0, -3.0]]), np.asarray([[1.0, 1.0]])
    assert diffusion.ddim_step("sample", denoised, x_t, 1.0, 2.0, 1.0, 0.5) == pytest.approx(x_t - 1.5 * (x_t - denoised) / 2)


def test_the_scalings_of_a_consistency_model():
    # σ_data = 3, σ_min = 1, σ = 4: c_skip = 9 / (9 + 9), c_out = 3 · 3 / 5, c_in = 1 / 5
    scalings = diffusion.consistency_scalings(np.asarray([4.0, 1.0]), sigma_data=3.0, sigma_min=1.0)
    assert [value.tolist() for value in scalings] == [[0.5, 1.0], [1.8, 0.0], [0.2, pytest.approx(1 / math.sqrt(10))]]
    assert diffusion.consistency(np.asarray([[10.0], [10.0]]), np.asarray([[6.0], [6.0]]), np.asarray([4.0, 1.0]), 3.0, 1.0).tolist() == [
        [21.0],
        [6.0],
    ]


def test_float32_stays_float32_whatever_kind_of_float_the_coefficient_is():
    x = X.astype(np.float32)
    assert diffusion.corrupt(x, x, np.float64(0.5), np.float64(0.5)).dtype == np.float32
    assert diffusion.corrupt(x, x, 1, 0).dtype == np.float32


@pytest.mark.parametrize(
    "call",
    [
        lambda p: diffusion.target(p, X, NOISE, A, B),
        lambda p: diffusion.recover(p, X, X, A, B),
        lambda p: diffusion.ddim_step(p, X, X, A, B, A, B),
    ],
    ids=["target", "recover", "ddim_step"],
)
def test_an_unknown_prediction_lists_the_known_and_the_nearest(call):
    with pytest.raises(ValueError, match=r"prediction must be one of epsilon, sample, .*, got 'v-prediction'; did you mean 'v_prediction'"):
        call("v-prediction")


def test_alpha_bar_by_hand():
    assert schedules.alpha_bar("linear", 3, 0.5, 0.75).tolist() == [0.5, 0.5 * 0.375, 0.5 * 0.375 * 0.25]
    # roots ½, ⅝, ¾ of betas ¼, 25/64, 9/16
    assert schedules.alpha_bar("scaled_linear", 3, 0.25, 0.5625) == pytest.approx(np.cumprod([3 / 4, 39 / 64, 7 / 16]))
    cosine = schedules.alpha_bar("squaredcos_cap_v2", 1000)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    assert cosine[:-1] == pytest.approx(np.asarray(f[1:-1]) / f[0], rel=1e-9)
    assert cosine[-1] == pytest.approx(cosine[-2] * 0.001, rel=1e-9)  # the cap: f ends at 0


def test_coefficients_are_roots_and_hold_both_ends():
    a, b = schedules.coefficients(np.asarray([1.0, 0.36, 0.0]))
    assert a == pytest.approx([1.0, 0.6, 0.0])
    assert b == pytest.approx([0.0, 0.8, 1.0])


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((10, 5), [8, 6, 4, 2, 0]),
        ((10, 4), [6, 4, 2, 0]),
        ((10, 5, "leading", 1), [9, 7, 5, 3, 1]),
        ((10, 1), [0]),
        ((10, 5, "trailing"), [9, 7, 5, 3, 1]),
        ((10, 3, "trailing"), [9, 6, 2]),  # 10, 6⅔, 3⅓ rounded, less 1
        ((10, 4, "trailing"), [9, 7, 4, 1]),  # 10, 7½, 5, 2½: halves to even
        ((10, 4, "linspace"), [9, 6, 3, 0]),
        ((10, 10, "linspace"), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_ddim_steps_by_hand(arguments, steps):
    found = schedules.ddim_steps(*arguments)
    assert found.tolist() == steps
    assert found.dtype == np.int64


def test_karras_levels_have_evenly_spaced_roots():
    # roots 1, 2, 3 for ρ = 3
    assert schedules.karras_sigmas(3, 1.0, 27.0, rho=3.0) == pytest.approx([1.0, 8.0, 27.0])
    sigma_N = schedules.karras_sigmas(40)
    assert (sigma_N[0], sigma_N[-1]) == (0.002, 80.0)
    assert np.all(np.diff(sigma_N) > 0)


CT = {"train_steps": 800_000, "s0": 2, "s1": 150}


@pytest.mark.parametrize(
    ("step", "levels"),
    # N is the least whole number with N² ≥ 4 + k · 22797 / 800000
    [(0, 2), (1, 3), (175, 3), (176, 4), (400_000, 107), (789_473, 151), (789_400, 150), (800_000, 151)],
)
def test_consistency_training_s_levels_by_hand(step, levels):
    assert schedules.consistency_levels(step, **CT) == levels
    assert (levels - 1) ** 2 * 800_000 < 4 * 800_000 + 22_797 * step <= levels**2 * 800_000


def test_the_levels_are_the_paper_s_formula():
    rng = np.random.default_rng(0)
    for step in rng.integers(800_001, size=2000):
        exact = math.sqrt(step / 800_000 * (151**2 - 4) + 4)
        if abs(exact - round(exact)) > 1e-9:  # there rounding would decide
            assert schedules.consistency_levels(step, **CT) == math.ceil(exact - 1) + 1


def test_consistency_training_s_decay_by_hand():
    assert schedules.consistency_decay(2) == pytest.approx(0.9)
    assert schedules.consistency_decay(4) == pytest.approx(math.sqrt(0.9))
    assert schedules.consistency_decay(151) == pytest.approx(0.9 ** (2 / 151))


@pytest.mark.parametrize(
    ("step", "levels"), [(0, 11), (49_999, 11), (50_000, 21), (149_999, 41), (150_000, 81), (350_000, 1281), (400_000, 1281)]
)
def test_the_levels_double_eight_times(step, levels):
    # log2(1280 / 10) + 1 = 8 stages of 50,000 steps
    assert schedules.doubling_levels(step, 400_000) == levels


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: schedules.alpha_bar("cosine", 10), ValueError, "schedule must be one of linear, scaled_linear, squaredcos_cap_v2"),
        (lambda: schedules.alpha_bar("scaled-linear", 10), ValueError, "did you mean 'scaled_linear'"),
        (lambda: schedules.alpha_bar("linear", 0), ValueError, "train_steps must be an integer ≥ 1, got 0"),
        (lambda: schedules.alpha_bar("linear", 10.0), TypeError, "train_steps must be an integer"),
        (lambda: schedules.alpha_bar("linear", 10, 0.02, 0.02), ValueError, "beta_end must be > beta_start and < 1, got beta_start=0.02"),
        (lambda: schedules.alpha_bar("linear", 10, 0.5, 1.0), ValueError, "beta_end must be"),
        (lambda: schedules.alpha_bar("linear", 10, -0.1), ValueError, "beta_start must be finite and > 0"),
        (lambda: schedules.alpha_bar("linear", 10, "0.1"), TypeError, "beta_start must be a number"),
        (lambda: schedules.alpha_bar("squaredcos_cap_v2", 10, 1e-4), ValueError, "beta_start and beta_end must be left out"),
        (lambda: schedules.coefficients(np.asarray([0.5, 1.5])), ValueError, r"alpha_bar_T must lie in \[0, 1\], got 1.5"),
        (lambda: schedules.coefficients(np.asarray([np.nan])), ValueError, "got nan"),
        (lambda: schedules.ddim_steps(1000, 0), ValueError, "steps must be an integer ≥ 1, got 0"),
        (lambda: schedules.ddim_steps(10, 11), ValueError, "steps must be"),
        (lambda: schedules.ddim_steps(1000, 50, "linspaced"), ValueError, "spacing must be one of .* did you mean 'linspace'"),
        (lambda: schedules.ddim_steps(1000, 50, "trailing", 1), ValueError, "steps_offset must be 0 for spacing 'trailing', got 1"),
        (lambda: schedules.ddim_steps(1000, 1000, steps_offset=1), ValueError, "steps_offset must leave the first step below"),
        (lambda: schedules.ddim_steps(1000, 1, "linspace"), ValueError, "holds both ends.* must be an integer ≥ 2, got 1"),
        (lambda: schedules.euler_times(-1), ValueError, "steps must be an integer ≥ 1, got -1"),
        (lambda: schedules.karras_sigmas(1), ValueError, "levels must be an integer ≥ 2, got 1"),
        (lambda: schedules.karras_sigmas(10, 80.0, 0.002), ValueError, "sigma_max must be > sigma_min"),
        (lambda: schedules.karras_sigmas(10, 0.0), ValueError, "sigma_min must be finite and > 0"),
        (lambda: schedules.karras_sigmas(10, rho=-7.0), ValueError, "rho must be"),
        (lambda: schedules.consistency_levels(11, 10), ValueError, "step must be an integer ≥ 0 and < 11, got 11"),
        (lambda: schedules.consistency_levels(0, 10, s0=1), ValueError, "s0 must be an integer ≥ 2"),
        (lambda: schedules.consistency_levels(0, 10, s0=4, s1=3), ValueError, "s1 must be an integer ≥ 4"),
        (lambda: schedules.consistency_decay(1), ValueError, "levels must be an integer ≥ 2"),
        (lambda: schedules.consistency_decay(5, mu0=1.0), ValueError, r"mu0 must be in \(0, 1\), got 1.0"),
        (lambda: schedules.doubling_levels(0, 7), ValueError, "train_steps must be ≥ 8, one for each doubling"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


corrupt, perturb, recover, target, scalings = (
    getattr(diffusion, name) for name in ("corrupt", "perturb", "recover", "target", "consistency_scalings")
)


def variance_for_amplitude(x, noise, a_B, b_B):
    """Mixes with a² and b²."""
    return corrupt(x, noise, a_B**2, b_B**2)


def float64_inside(x, noise, a_B, b_B):
    """Answers float64 for float32 images."""
    return corrupt(x, noise, a_B, b_B).astype(np.float64)


def image_in_place(x, noise, a_B, b_B):
    """Corrupts the caller's image in place."""
    x[...] = corrupt(x, noise, a_B, b_B)
    return x


def variance_kept(noise, other, weight_B):
    """Divides the perturbed noise by sqrt(1 + W²)."""
    return perturb(noise, other, weight_B) / diffusion.per_sample((1 + weight_B**2) ** 0.5, noise)


def sign_of_v_turned(prediction, x, noise, a_B, b_B):
    """Takes v = b x - a n."""
    return target(prediction, x, noise, a_B, b_B) * (-1 if prediction == "v_prediction" else 1)


def velocity_to_the_noise(prediction, x, noise, a_B, b_B):
    """Takes the velocity n - x, from the image to the noise."""
    return target(prediction, x, noise, a_B, b_B) * (-1 if prediction == "velocity" else 1)


def variance_preserving_always(prediction, output, x_t, a_B, b_B):
    """Recovers from v as if a² + b² were 1 on every path."""
    x, noise = recover(prediction, output, x_t, a_B, b_B)
    square = diffusion.per_sample(a_B * a_B + b_B * b_B, x_t) if prediction == "v_prediction" else 1
    return x * square, noise * square


def nan_replaced(prediction, output, x_t, a_B, b_B):
    """Answers zeros where a prediction says nothing."""
    return tuple(np.nan_to_num(v, posinf=0.0, neginf=0.0) for v in recover(prediction, output, x_t, a_B, b_B))


def noise_of_the_last_level(prediction, output, x_t, a_B, b_B, next_a_B, next_b_B):
    """Mixes the predicted image with the noise level that the step leaves."""
    return corrupt(*recover(prediction, output, x_t, a_B, b_B), next_a_B, b_B)


def ancestral_end(prediction, output, x_t, a_B, b_B, next_a_B, next_b_B):
    """Keeps a thousandth of the noise where the image should be left alone."""
    return corrupt(*recover(prediction, output, x_t, a_B, b_B), next_a_B, next_b_B + 0.001)


def boundary_forgotten(sigma_B, sigma_data=0.5, sigma_min=0.002):
    """Takes EDM's scalings, the identity at sigma = 0 instead of sigma_min."""
    return scalings(sigma_B, sigma_data, 0.0)


MUTANTS = [
    ("corrupt", variance_for_amplitude, "test_corrupt_mixes_image_and_noise"),
    ("corrupt", float64_inside, "test_results_are_like_the_image"),
    ("corrupt", image_in_place, "test_results_are_like_the_image"),
    ("perturb", variance_kept, "test_perturbation_adds_its_variance"),
    ("target", sign_of_v_turned, "test_the_perfect_predictor_has_no_loss"),
    ("target", velocity_to_the_noise, "test_the_perfect_predictor_has_no_loss"),
    ("recover", variance_preserving_always, "test_a_prediction_gives_back_image_and_noise"),
    ("recover", nan_replaced, "test_what_a_prediction_cannot_know_is_not_finite"),
    ("ddim_step", noise_of_the_last_level, "test_a_step_goes_to_the_next_level"),
    ("ddim_step", ancestral_end, "test_perfect_steps_end_at_the_image"),
    ("consistency_scalings", boundary_forgotten, "test_consistency_is_the_identity_at_sigma_min"),
    ("corrupt", variance_for_amplitude, "test_gradients_are_the_coefficients"),
]


@pytest.mark.parametrize(("name", "wrong", "law"), MUTANTS, ids=[f"{wrong.__name__}, {law}" for _, wrong, law in MUTANTS])
def test_the_law_named_rejects_the_mutant_and_passes_the_reference(name, wrong, law, monkeypatch):
    subject = subjects.of(reference)
    assert judge(f"laws_diffusion.{law}", subject) is None
    monkeypatch.setattr(diffusion, name, wrong)
    assert judge(f"laws_diffusion.{law}", subject) is not None, f"{law} lets pass a version that: {wrong.__doc__}"
