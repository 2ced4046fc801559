"""A consistency model's sampler against diffusers' scheduler, and the exact field as the model that it should be."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler
from scipy.integrate import solve_ivp

from immref import KNN, ImageScaling, LinearAssignment, Pairing, schedules
from immref.exact import ExactField
from immref_trainers import evaluation, exact_field, objectives, samplers, streams
from immref_trainers.config import Consistency, Evaluation, Run, Sampler
from immref_trainers.loop import Trainer
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.samplers import chunks, multistep

U = float(np.finfo(np.float32).eps)


def a_run(levels=(0, 24), clip=False, pairing=Pairing()):  # noqa: B008
    return Run(
        recipe="digits-consistency",
        objective=Consistency(),
        pairing=pairing,
        sampler=Sampler("multistep", clip_sample=clip, levels=levels),
        evaluation=Evaluation(sampler_steps=(1,)),
    )


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@pytest.fixture(scope="module")
def network():
    return unet.build(UNet(block_out_channels=(8,), norm_num_groups=4), 1, 8, streams.torch_seed(streams.WEIGHTS, 0))


@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
@pytest.mark.parametrize("levels", [(0,), (0, 24), (0, 5, 20, 38)], ids=str)
def test_every_step_is_that_of_diffusers_scheduler(network, monkeypatch, levels, clip):
    """Its noise is ours: it draws with `randn_tensor`, which gets the numbers of our generator."""
    run, start = a_run(levels, clip), normal(6, 1, 8, 8)
    predict = objectives.build(run.objective, start).predictor(network)
    ours = samplers.sample(run, predict, start, len(levels), 1.0, generator=np.random.default_rng(5))

    rng = np.random.default_rng(5)
    scheduler = CMStochasticIterativeScheduler(clip_denoised=clip)
    scheduler.set_timesteps(timesteps=list(levels[::-1]))
    draw = lambda shape, **_: torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))  # noqa: E731
    monkeypatch.setattr("diffusers.schedulers.scheduling_consistency_models.randn_tensor", draw)
    x = start * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t).sample, t, x).prev_sample
    # t = 250 ln sigma is rounded to float32 in other places: by 1e-4, to which the network's sines answer
    assert torch.allclose(ours, x, rtol=0, atol=1e-3 * float(x.abs().max()))


@pytest.mark.parametrize("steps", [1, 2])
def test_only_as_many_levels_as_steps_are_visited_and_the_scaling_is_undone(steps):
    run, seen = a_run((0, 24), pairing=ImageScaling(2.0)), []

    def predict(x, sigma_B, labels_B):
        seen.append((x, sigma_B))
        return torch.full_like(x, 3.0)

    start = normal(4, 1, 8, 8)
    made = samplers.sample(run, predict, start, steps, 1.0, generator=np.random.default_rng(0))
    assert torch.equal(made, torch.full_like(made, 1.5))
    sigma_N = schedules.karras_sigmas(40, 0.002, 80.0)[::-1]
    wanted = sigma_N[[0, 24]][:steps]
    assert [float(sigma_B[0]) for _, sigma_B in seen] == pytest.approx(wanted, rel=1e-6)
    assert torch.allclose(seen[0][0], 80 * start, rtol=1e-6)
    if steps == 2:
        added = seen[1][0] - 3.0
        fresh = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, 8, 8), dtype=np.float32))
        assert torch.allclose(added, (wanted[1] ** 2 - 0.002**2) ** 0.5 * fresh, rtol=0, atol=4 * U * float(seen[1][0].abs().max()))


@pytest.mark.parametrize(("clip", "largest", "bound"), [(True, 0.5, 0.5), (False, 0.5, 7.0)])
def test_clipping_holds_images_within_the_data_s_range_also_under_scaling(clip, largest, bound):
    run = a_run((0, 24), clip, ImageScaling(2.0))
    made = samplers.sample(run, lambda x, *_: 14 * x.sign(), normal(4, 1, 8, 8), 2, largest, generator=np.random.default_rng(0))
    assert float(made.abs().max()) == bound


def test_batches_in_memory_do_not_change_the_first_step(network, monkeypatch):
    run, start = a_run((0,)), normal(10, 1, 8, 8)
    predict = objectives.build(run.objective, start).predictor(network)
    whole = samplers.sample(run, predict, start, 1, 1.0, generator=np.random.default_rng(0))
    monkeypatch.setattr(chunks, "SIZE", 4)
    parts = samplers.sample(run, predict, start, 1, 1.0, generator=np.random.default_rng(0))
    assert torch.allclose(whole, parts, rtol=0, atol=50 * U * float(whole.abs().max()))


# the exact field as a consistency model


class Few:
    """Training images (12, 1, 2, 2), far apart."""

    shape = (1, 2, 2)

    def images(self, index_B):
        return np.random.default_rng(1).choice([-1.0, 1.0], (12, *self.shape)).astype(np.float32)[index_B]

    def __len__(self):
        return 12


@pytest.mark.parametrize("pairing", [Pairing(), KNN(k=4), ImageScaling(2.0)], ids=str)
def test_the_exact_field_leads_to_training_images_by_the_path_of_its_denoiser(pairing):
    """Against SciPy's adaptive solver on the same velocity (z - E[x | z]) / sigma."""
    x_ND = Few().images(np.arange(12)).reshape(12, 4)
    noise = np.random.default_rng(2).standard_normal((8, 4))
    ends = exact_field.ends(SimpleNamespace(train=Few()), a_run(pairing=pairing), noise)
    field = ExactField(x_ND * pairing.scale, pairing.k)

    def slope(u, z):
        sigma = np.exp(u)
        return (z.reshape(8, 4) - field.denoise(z.reshape(8, 4), 1.0, sigma)).ravel()  # d z / d ln sigma

    solved = solve_ivp(slope, np.log([80.0, 0.002]), 80 * noise.ravel(), rtol=1e-8, atol=1e-8)
    assert solved.success
    assert np.abs(ends - solved.y[:, -1].reshape(8, 4) / pairing.scale).max() < 0.02
    nearest = np.abs(ends[:, None] - x_ND[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 0.02


@pytest.fixture
def consistent(tiny):
    objective = Consistency(s0=2, s1=8)
    return replace(tiny, objective=objective, sampler=Sampler("multistep"), evaluation=replace(tiny.evaluation, sampler_steps=(1, 2)))


def test_a_network_that_is_the_exact_field_is_not_apart_from_it(consistent, images, accelerator, monkeypatch):
    trainer = Trainer(replace(consistent, pairing=KNN(k=4)), images, accelerator)
    start = evaluation.first(evaluation.gaussian_starts(trainer)[0], 20)
    perfect = exact_field.ends(images, trainer.run, start[0].reshape(20, -1)).reshape(start[0].shape)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "sample", lambda *_: perfect)
        same = evaluation.beside_exact_field(trainer, images, start)
    assert same.apart == 0.0
    assert same.chance > 0.3
    untrained = evaluation.beside_exact_field(trainer, images, start)
    assert untrained.apart > 0.3


def test_there_is_nothing_beside_which_assignment_could_be_put(consistent, images, accelerator):
    trainer = Trainer(replace(consistent, pairing=LinearAssignment()), images, accelerator)
    start = evaluation.first(evaluation.gaussian_starts(trainer)[0], 4)
    assert evaluation.beside_exact_field(trainer, images, start) is None
    flow = Trainer(replace(consistent, objective=Run("r").objective, sampler=Sampler()), images, accelerator)
    assert evaluation.beside_exact_field(flow, images, start) is None


def test_levels_are_karras(network):
    assert multistep.sigmas(a_run((0, 39))) == pytest.approx([80.0, 0.002])
