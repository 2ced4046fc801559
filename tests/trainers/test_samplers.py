"""DDIM against diffusers' DDIMScheduler, which is driven with the predictions that our sampler got, and against exact predictors.

Everything runs in float64 and the scheduler has our table of alpha-bar (test_against_diffusers.py judges the tables), so that
nothing but the rounding of float64 is allowed for.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from immref import KNN, ImageScaling, diffusion, schedules
from immref.exact import ExactField
from immref_trainers import exact_field, objectives, samplers, streams
from immref_trainers.config import Evaluation, Objective, Run, Sampler
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.samplers import chunks, ddim, euler

U = float(np.finfo(np.float64).eps)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
LARGEST = 0.25  # of pretended data: small, so that clipping always has something to do


def a_run(prediction="epsilon", spacing="leading", clip=False, scale=1.0, train_steps=1000, steps=20):
    return Run(
        recipe="digits-ddim",
        objective=Objective("ddpm", prediction, num_train_timesteps=train_steps),
        sampler=Sampler("ddim", spacing, clip),
        pairing=ImageScaling(scale),
        evaluation=Evaluation(sampler_steps=(steps,)),
    )


def noise_like(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.fixture(scope="module")
def network():
    """Small, in float64, its weights as they are drawn: its predictions depend on x_t and on t."""
    return unet.build(UNet(block_out_channels=(8,), norm_num_groups=4), 1, 8, streams.torch_seed(streams.WEIGHTS, 0)).double()


def recorded(predict):
    """`predict`, and the list to which it adds (x_t, t_B, prediction)."""
    calls = []

    def and_record(x_t, t_B, labels_B=None):
        calls.append((x_t.clone(), t_B, predict(x_t, t_B, labels_B)))
        return calls[-1][-1]

    return and_record, calls


def scheduler_of(run, steps):
    """diffusers' sampler of the same run."""
    scheduler = DDIMScheduler(
        num_train_timesteps=run.objective.num_train_timesteps,
        prediction_type=run.objective.prediction,
        timestep_spacing=run.sampler.timestep_spacing,
        clip_sample=run.sampler.clip_sample,
        clip_sample_range=run.pairing.scale * LARGEST,
    )
    scheduler.alphas_cumprod = torch.from_numpy(run.objective.alpha_bar())
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    return scheduler


def amplification(prediction, a, b, next_a, next_b):
    """What a DDIM step makes of an error in x_t, the prediction held fixed: the sum of the absolute weights of x_t in it."""
    if prediction == "epsilon":
        return next_a / a
    return next_b / b if prediction == "sample" else next_a * a + next_b * b


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("spacing", "train_steps"), [("leading", 1000), ("trailing", 1000), ("linspace", 20)])
def test_whole_trajectories_are_diffusers(network, spacing, train_steps, prediction, clip, scale):
    """Every state that the network saw and the samples; with linspace diffusers goes to the next step only where it visits all."""
    steps = 20
    run = a_run(prediction, spacing, clip, scale, train_steps)
    objective = objectives.build(run.objective, noise_like(1))
    predict, calls = recorded(objective.predictor(network))
    samples = samplers.sample(run, predict, noise_like(4, 1, 8, 8), steps, LARGEST)

    scheduler, theirs, band = scheduler_of(run, steps), noise_like(4, 1, 8, 8), 0.0
    assert [set(t_B.tolist()) for _, t_B, _ in calls] == [{int(t)} for t in scheduler.timesteps]
    a_S, b_S = schedules.coefficients(np.append(run.objective.alpha_bar()[scheduler.timesteps.numpy()], 1.0))
    clipped = False
    for i, (x_t, t_B, output) in enumerate(calls):
        assert (x_t - theirs).abs().max().item() <= band
        found = scheduler.step(output, int(t_B[0]), theirs)
        image, noise = diffusion.recover(prediction, output, theirs, a_S[i], b_S[i])
        clipped |= bool((image.abs() > scale * LARGEST).any())
        # eight roundings of each term, of which the predicted image and noise may hold the largest
        terms = max(part.abs().max().item() for part in (x_t / a_S[i], output / a_S[i], x_t / b_S[i], output / b_S[i], image, noise))
        band = amplification(prediction, a_S[i], b_S[i], a_S[i + 1], b_S[i + 1]) * band + 8 * U * terms
        theirs = found.prev_sample
    assert (samples - theirs / scale).abs().max().item() <= band / scale
    assert band < 1e-9  # a band that could hide a wrong step would prove nothing
    assert clipped  # in either case; only then does the choice matter
    if clip:
        assert samples.abs().max().item() <= LARGEST


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_predictor_that_knows_the_image_leads_to_it(images, monkeypatch, prediction, spacing, scale):
    """In any number of steps, in chunks, and with the data's scale taken off again."""
    monkeypatch.setattr(chunks, "SIZE", 4)
    x = scale * torch.from_numpy(images.train.x[:6]).double()
    run = a_run(prediction, spacing, clip=True, scale=scale, steps=3)
    a_T, b_T = schedules.coefficients(run.objective.alpha_bar())
    seen = iter((range(4), range(4), range(4), range(4, 6), range(4, 6), range(4, 6)))

    def perfect(x_t, t_B, labels_B):
        known, a, b = x[list(next(seen))], float(a_T[int(t_B[0])]), float(b_T[int(t_B[0])])
        noise = diffusion.recover("sample", known, x_t, a, b)[1]
        return diffusion.target(prediction, known, noise, a, b)

    samples = ddim.sample(perfect, noise_like(*x.shape), 3, run, largest=images.train.x.max().item())
    # the image is (x_t - b n) / a at worst: four roundings of numbers up to |x_t| + |n| ≤ 12, enlarged by 1 / a
    assert (samples - x / scale).abs().max().item() <= 4 * U * 12 / a_T[-1]


def test_the_exact_field_is_sampled_as_the_network_would_be(images):
    """`exact_field.follow` is our DDIM with the exact denoiser as its predictor, whatever that predicts; no image needs clipping."""
    scale, steps = 2.0, 8
    data = scale * images.train.x[:200].reshape(200, -1).astype(np.float64)
    noise = noise_like(30, *images.train.shape, seed=1)
    field = ExactField(data, k=4)
    for prediction in PREDICTIONS:
        run = replace(a_run(prediction, "trailing", clip=True, steps=steps), pairing=KNN(k=4, scale=scale))
        a_T, b_T = schedules.coefficients(run.objective.alpha_bar())

        def exact(x_t, t_B, labels_B, prediction=prediction, a_T=a_T, b_T=b_T):
            a, b = float(a_T[int(t_B[0])]), float(b_T[int(t_B[0])])
            x = torch.from_numpy(field.denoise(x_t.numpy().reshape(len(x_t), -1), a, b).reshape(x_t.shape))
            return diffusion.target(prediction, x, diffusion.recover("sample", x, x_t, a, b)[1], a, b)

        states = exact_field.follow(field, noise.numpy().reshape(30, -1), steps, run)
        assert len(states) == steps + 1
        ours = samplers.sample(run, exact, noise, steps, float(np.abs(images.train.x).max())).numpy().reshape(30, -1)
        assert np.abs(ours - states[-1] / scale).max() <= field_rounding(run, data, noise.numpy(), steps) / scale


def field_rounding(run, data, noise, steps):
    """Each step rounds the state by 8 eps · largest value / a; the posterior's softmax hands a change δ of the state on as at
    most δ · a |data|² / b², and the sampler takes next_a of it."""
    largest, reach = max(np.abs(data).max(), np.abs(noise).max()), np.square(data).sum(axis=1).max()
    band, coefficients = 0.0, ddim.path(run, steps)[1]
    for (a, b), (next_a, next_b) in zip(coefficients[:-1], coefficients[1:], strict=True):
        band = (next_b / b + abs(next_a - a * next_b / b) * a * reach / b**2) * band + 8 * U * largest / a
    return band


def test_flow_is_sampled_by_euler(images):
    run, noise = Run(recipe="digits-flow", pairing=ImageScaling(2.0)), noise_like(5, 1, 8, 8)

    def towards_zero(x_t, t_B, labels_B):
        return -x_t

    assert torch.equal(samplers.sample(run, towards_zero, noise, 3, 0.1), euler.sample(towards_zero, noise, 3, 2.0))
