"""Tables, targets, steps and scalings against diffusers' schedulers: numbers, in bands that its float32 tables explain.

Our side runs in float64. diffusers rounds its betas, their products and the roots to float32: `errors` bounds what that does
to a and b, and a sum of products of up to three of them is off by at most three times that. T = 1000 training steps.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from immref import diffusion, schedules

T = 1000
U32, U64 = (float(np.finfo(dtype).eps) / 2 for dtype in (np.float32, np.float64))
BETAS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "squaredcos_cap_v2": (None, None)}
ROUNDINGS = {"linear": 5, "scaled_linear": 11, "squaredcos_cap_v2": 1}  # of a beta: ends, step, product, sum; a square of those; a cast
PREDICTIONS = ("epsilon", "sample", "v_prediction")
SHAPE = (4, 3, 2, 2)

diffusers_converts = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def scheduler_of(kind, schedule, **settings):
    start, end = BETAS[schedule]
    betas = {} if start is None else {"beta_start": start, "beta_end": end}
    return kind(num_train_timesteps=T, beta_schedule=schedule, **betas, **settings)


def table(schedule):
    return schedules.alpha_bar(schedule, T, *BETAS[schedule])


def table_error(schedule):
    """Relative error of diffusers' alpha-bar: in each factor that of beta, handed on to 1 - beta, its rounding and the product's."""
    alpha_bar = table(schedule)
    beta = 1 - alpha_bar / np.append(1.0, alpha_bar[:-1])
    return U32 * np.cumsum(ROUNDINGS[schedule] * beta / (1 - beta) + 2)


def errors(schedule):
    """The larger of the relative errors of diffusers' a and b at each training step; a root's is half its argument's, and 2 u."""
    alpha_bar, relative = table(schedule), table_error(schedule)
    return np.maximum(relative, alpha_bar * relative / (1 - alpha_bar) + U32) / 2 + 2 * U32


def normal(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def close(ours, theirs, band):
    """Whether they agree; the largest difference in bands is the message of the assertion."""
    ratio = np.max(np.abs(np.asarray(ours) - np.asarray(theirs, dtype=np.float64)) / band)
    assert ratio <= 1, f"differs by {ratio:.3g} times its band"


@pytest.mark.parametrize("schedule", BETAS)
def test_alpha_bar(schedule):
    theirs = scheduler_of(DDPMScheduler, schedule).alphas_cumprod.numpy()
    close(table(schedule), theirs, table_error(schedule) * table(schedule))


@pytest.mark.parametrize("schedule", BETAS)
def test_corruption_and_targets(schedule):
    scheduler = scheduler_of(DDPMScheduler, schedule)
    t_B = np.asarray([0, 10, 500, 999])
    a_B, b_B = (table_T[t_B] for table_T in schedules.coefficients(table(schedule)))
    x, noise = normal(2, *SHAPE, seed=0)
    for ours, call, terms in (
        (diffusion.corrupt(x, noise, a_B, b_B), scheduler.add_noise, diffusion.corrupt(abs(x), abs(noise), a_B, b_B)),
        (diffusion.target("v_prediction", x, noise, a_B, b_B), scheduler.get_velocity, diffusion.corrupt(abs(noise), abs(x), a_B, b_B)),
    ):
        theirs = call(torch.from_numpy(x), torch.from_numpy(noise), torch.from_numpy(t_B)).numpy()
        close(ours, theirs, diffusion.per_sample(errors(schedule)[t_B], x) * terms)


def weights(prediction, a, b, next_a, next_b):
    """The sums of the absolute weights of x_t and of the prediction in a DDIM step."""
    if prediction == "epsilon":
        return next_a / a, next_a * b / a + next_b
    if prediction == "sample":
        return next_b / b, next_a + next_b * a / b
    return next_a * a + next_b * b, next_a * b + next_b * a


@pytest.mark.parametrize("schedule", BETAS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("spacing", "settings"),
    [
        ("leading", {}),
        ("leading", {"set_alpha_to_one": False, "steps_offset": 1}),  # Stable Diffusion's
        ("trailing", {}),
        ("linspace", {}),
    ],
    ids=["leading", "leading, Stable Diffusion", "trailing", "linspace"],
)
def test_whole_trajectories(schedule, prediction, spacing, settings):
    """Twenty steps from the same noise with the same predictions: every state, and every predicted image."""
    scheduler = scheduler_of(DDIMScheduler, schedule, prediction_type=prediction, timestep_spacing=spacing, clip_sample=False, **settings)
    scheduler.set_timesteps(20)
    steps = schedules.ddim_steps(T, 20, spacing, settings.get("steps_offset", 0))
    assert scheduler.timesteps.tolist() == steps.tolist()
    following = steps - T // 20  # where diffusers goes from each
    assert (spacing == "linspace") != np.array_equal(following[:-1], steps[1:])

    alpha_bar, error_T = table(schedule), errors(schedule)
    final = alpha_bar[0] if settings else 1.0
    a_T, b_T = schedules.coefficients(np.append(alpha_bar, final))
    ours, outputs = normal(*SHAPE, seed=1), normal(20, *SHAPE, seed=2)
    theirs, band = torch.from_numpy(ours), np.zeros(SHAPE)
    for t, then, output in zip(steps, np.where(following < 0, T, following), outputs, strict=True):
        a, b, next_a, next_b = a_T[t], b_T[t], a_T[then], b_T[then]
        error = max(error_T[t], error_T[min(then, T - 1)] if then < T else error_T[0] * bool(settings)) + U32
        found = scheduler.step(torch.from_numpy(output), int(t), theirs)
        kept, added = weights(prediction, a, b, 1.0, 0.0)
        image_band = kept * band + 3 * error * (kept * np.abs(ours) + added * np.abs(output)) + 16 * U64
        close(diffusion.recover(prediction, output, ours, a, b)[0], found.pred_original_sample.numpy(), image_band)

        kept, added = weights(prediction, a, b, next_a, next_b)
        band = kept * band + 3 * error * (kept * np.abs(ours) + added * np.abs(output)) + 16 * U64
        ours, theirs = diffusion.ddim_step(prediction, output, ours, a, b, next_a, next_b), found.prev_sample
        close(ours, theirs.numpy(), band)
    assert np.max(band) < 0.05 * np.max(np.abs(ours))  # a band that could hide a wrong step would prove nothing


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
def test_steps_of_every_number(spacing):
    """diffusers' "trailing" adds up floats: where that makes a step too many, or turns a half the other way, ours are exact."""
    scheduler = scheduler_of(DDIMScheduler, "linear", timestep_spacing=spacing)
    for steps in range(2, T + 1):
        scheduler.set_timesteps(steps)
        ours, theirs = schedules.ddim_steps(T, steps, spacing), scheduler.timesteps.numpy()
        if not np.array_equal(ours, theirs):
            numerators = T * np.arange(steps, 0, -1)
            assert spacing == "trailing"
            assert np.array_equal(ours, np.rint(numerators / steps) - 1)
            assert theirs[steps:].tolist() in ([], [-1])
            halves = 2 * numerators % steps == 0
            assert np.all((ours == theirs[:steps]) | (halves & (abs(ours - theirs[:steps]) == 1)))


@diffusers_converts
def test_linspace_goes_from_each_step_to_the_next():
    """In x / a the deterministic step is Euler's in sigma = b / a: diffusers' Euler, which goes to the next step, where they are whole."""
    scheduler = scheduler_of(EulerDiscreteScheduler, "linear", timestep_spacing="linspace")
    scheduler.set_timesteps(28)
    steps = schedules.ddim_steps(T, 28, "linspace")
    assert scheduler.timesteps.tolist() == steps.tolist()
    a_S, b_S = schedules.coefficients(np.append(table("linear")[steps], 1.0))
    error_S = np.append(2 * errors("linear")[steps] + 2 * U32, 0.0)  # of sigma = b / a
    ours, outputs = normal(*SHAPE, seed=3), normal(28, *SHAPE, seed=4).astype(np.float32)
    theirs = torch.from_numpy(ours / a_S[0])
    band = 2 * U32 * np.abs(ours / a_S[0])
    for i, (here, there) in enumerate(pairwise(zip(a_S, b_S, error_S, strict=True))):
        ours = diffusion.ddim_step("epsilon", outputs[i].astype(np.float64), ours, *here[:2], *there[:2])
        scheduler.scale_model_input(theirs, scheduler.timesteps[i])
        theirs = scheduler.step(torch.from_numpy(outputs[i]), scheduler.timesteps[i], theirs).prev_sample
        # y' = y + (sigma' - sigma) (y - D) / sigma with D = y - sigma p: eight float32 roundings of |y| and sigma |p|, each twice
        sigma, next_sigma = here[1] / here[0], there[1] / there[0]
        largest = np.abs(ours / there[0]) + 2 * (sigma + next_sigma) * np.abs(outputs[i])
        band = band + (sigma * here[2] + next_sigma * there[2]) * np.abs(outputs[i]) + 16 * U32 * largest
        close(ours / there[0], theirs.numpy(), band)
    assert np.max(band) < 0.05 * np.max(np.abs(ours))


def karras_error(least, most, rho=7.0):
    """Of sigma in float64, both sides together: six roundings of a root of at most most^(1/rho), raised to the power rho."""
    return 2 * rho * 6 * U64 * (most / least) ** (1 / rho)


@diffusers_converts
@pytest.mark.parametrize("levels", [2, 18, 151])
def test_karras_levels(levels):
    ours = schedules.karras_sigmas(levels, 0.002, 80.0)[::-1]
    consistency = CMStochasticIterativeScheduler(num_train_timesteps=levels, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    close(ours, consistency.sigmas.numpy(), karras_error(0.002, 80.0) * ours)
    euler = EulerDiscreteScheduler(use_karras_sigmas=True, sigma_min=0.002, sigma_max=80.0)
    euler.set_timesteps(levels)
    close(ours, euler.sigmas[:-1].numpy(), (U32 + karras_error(0.002, 80.0)) * ours)


@diffusers_converts
def test_karras_levels_between_the_ends_of_a_schedule():
    """A level's relative error is a mean of those of the two ends, which are b / a at the last and the first step."""
    a_T, b_T = schedules.coefficients(table("linear"))
    scheduler = scheduler_of(EulerDiscreteScheduler, "linear", use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(30)
    ours = schedules.karras_sigmas(30, b_T[0] / a_T[0], b_T[-1] / a_T[-1])[::-1]
    relative = 2 * max(errors("linear")[[0, -1]]) + 2 * U32
    close(ours, scheduler.sigmas[:-1].numpy(), relative * ours)


def test_the_consistency_function():
    scheduler = CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, clip_denoised=False)
    sigma_N = schedules.karras_sigmas(40)
    ours = diffusion.consistency_scalings(sigma_N, 0.5, 0.002)
    for found, theirs in zip(ours, scheduler.get_scalings_for_boundary_condition(torch.from_numpy(sigma_N)), strict=False):
        close(found, theirs.numpy(), 16 * U64 * found + 1e-300)  # eight roundings each

    scheduler.set_timesteps(1)
    x_t, output = 80 * normal(*SHAPE, seed=5), normal(*SHAPE, seed=6)
    scaled = scheduler.scale_model_input(torch.from_numpy(x_t), scheduler.timesteps[0])
    c_in = float(diffusion.consistency_scalings(80.0, 0.5, 0.002)[2])
    close(c_in * x_t, scaled.numpy(), 8 * U32 * np.abs(c_in * x_t))
    image = scheduler.step(torch.from_numpy(output), scheduler.timesteps[0], torch.from_numpy(x_t)).prev_sample
    c_skip, c_out, _ = diffusion.consistency_scalings(80.0, 0.5, 0.002)
    close(diffusion.consistency(output, x_t, 80.0, 0.5, 0.002), image.numpy(), 10 * U32 * (c_skip * np.abs(x_t) + c_out * np.abs(output)))
