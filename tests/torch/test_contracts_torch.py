"""`check_training_step` on torch steps, one of them the add-noise, predict, min-SNR step of widely used training scripts."""

import pytest
import torch
from torch.nn import functional

import immref
from immref_spec.contracts import ContractError, check_training_step

X = torch.zeros(8, 4, 8, 8)
ALPHA_BAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)  # latent diffusion's
PAIRINGS = (immref.Vanilla(), immref.KNN(k=8), immref.LinearAssignment(), immref.KNN(k=4, scale=2.0))


@pytest.fixture(autouse=True)
def drawn_from_a_fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def like(coefficient_B, x):
    return coefficient_B.reshape(-1, *(1,) * (x.ndim - 1))


def ddpm(prediction="epsilon", pairing=PAIRINGS[0], permuted=False, gamma=5.0, backward=False, autocast=None):
    """x_t and the target as a DDPM scheduler makes them, loss per sample, weighted by min-SNR."""

    def step(latents, cond, predictor):
        paired = immref.pair(latents, pairing)
        x, noise, t = paired.x, paired.noise, torch.randint(0, 1000, (len(latents),))
        alpha_bar = ALPHA_BAR.to(x.dtype)[t]
        a, b = like(alpha_bar**0.5, x), like((1 - alpha_bar) ** 0.5, x)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast is not None):
            noisy = a * x + b * (noise[torch.randperm(len(x))] if permuted else noise)
            answer = predictor(noisy, t, cond)
        target = {"epsilon": noise, "v_prediction": a * noise - b * x, "sample": x}[prediction]
        loss_B = functional.mse_loss(answer.float(), target.float(), reduction="none").flatten(1).mean(1)
        snr = ALPHA_BAR[t] / (1 - ALPHA_BAR[t])
        weight = {"epsilon": snr.clamp(max=gamma) / snr, "v_prediction": snr.clamp(max=gamma) / (snr + 1), "sample": snr.clamp(max=gamma)}
        loss = (loss_B * weight[prediction]).mean()
        if backward:
            loss.backward()
        return loss

    return step


def flow(data_at_one, pairing=PAIRINGS[1], permuted=False):
    def step(x, cond, predictor):
        paired = immref.pair(x, pairing)
        x, noise, t = paired.x, paired.noise, torch.rand(len(x))
        a = like(t if data_at_one else 1 - t, x)
        used = noise.flip(0) if permuted else noise
        target = x - noise if data_at_one else noise - x
        return functional.mse_loss(predictor(a * x + (1 - a) * used, 1000 * t, cond), target)

    return step


def judge(step, prediction="epsilon", **arguments):
    return check_training_step(step, **{"x": X, "schedule": ALPHA_BAR, "prediction": prediction} | arguments)


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_ddpm_step_passes_under_every_pairing(prediction, pairing):
    judge(ddpm(prediction, pairing), prediction, scale=pairing.scale)


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
def test_a_flow_step_passes_in_both_conventions(pairing):
    arguments = {"scale": pairing.scale, "time_units": 1000}
    judge(flow(True, pairing), "velocity", schedule=lambda t: (t, 1 - t), **arguments)
    judge(flow(False, pairing), "velocity", schedule=lambda t: (1 - t, t), **arguments)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_permuted_when_corrupting_is_told(prediction):
    with pytest.raises(ContractError, match="not the noise in the target"):
        judge(ddpm(prediction, PAIRINGS[2], permuted=True), prediction)
    with pytest.raises(ContractError, match="not the noise in the target"):
        judge(flow(True, permuted=True), "velocity", schedule=lambda t: (t, 1 - t), time_units=1000)


def test_a_step_may_call_backward_and_run_compiled():
    judge(ddpm(backward=True))
    torch.compiler.reset()
    judge(torch.compile(ddpm(), backend="eager"))


def test_inside_autocast_the_answer_keeps_the_dtype_of_x_t():
    seen = set()

    def step(x, cond, predictor):
        def watched(x_t, t, cond):
            seen.add((x_t.dtype, predictor(x_t, t, cond).dtype))
            return predictor(x_t, t, cond)

        return ddpm(autocast=True)(x, cond, watched)

    judge(step)
    assert seen == {(torch.float32, torch.float32)}


def test_float16_passes_and_bfloat16_is_sent_to_float32():
    judge(ddpm(), x=X[:4].half())
    with pytest.raises(ContractError, match=r"calls could be judged, 12 are wanted.*give x in float32"):
        judge(ddpm(), x=X.bfloat16())


def test_a_table_on_the_device_and_a_list_mean_the_same():
    for table in (ALPHA_BAR, ALPHA_BAR.numpy(), ALPHA_BAR.tolist()):
        judge(ddpm(), schedule=table)


def test_numpy_in_the_place_of_tensors_is_refused():
    def step(x, cond, predictor):
        return ddpm()(x, cond, lambda x_t, t, cond: predictor(x_t.numpy(), t, cond))

    with pytest.raises(ContractError, match=r"must get x_t like the images, torch torch.float32 \(8, 4, 8, 8\), got numpy"):
        judge(step)
