"""The adaptive solver against a flow that can be written down, SciPy's solver and Euler's steps of falling length."""

import sys

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from immref.exact import ExactField
from immref_trainers.errors import TrainingError
from immref_trainers.samplers import adaptive, chunks, euler

MEAN, STD = 0.7, 0.5  # of Gaussian data
TOLERANCE = 1e-5
END = 0.9  # where the exact field is left, whose velocity is undefined at 1


def noise_like(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def counted(predict):
    """`predict`, and the list to which it adds (t, x_t, labels)."""
    calls = []

    def and_counted(x_t, t_B, labels_B):
        calls.append((t_B, x_t, labels_B))
        return predict(x_t, t_B, labels_B)

    return and_counted, calls


def gaussian_velocity(x_t, t_B, labels_B=None):
    """E[x - n | x_t] for data N(MEAN, STD²), whose flow takes n to MEAN + STD n."""
    t = t_B.reshape(-1, 1, 1, 1)
    variance = (t * STD) ** 2 + (1 - t) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (x_t - t * MEAN)


@pytest.fixture(scope="module")
def field(images):
    """(x_t, t_B, labels_B) → the exact field's velocity, slowed so that time 1 is the field's time END."""
    exact = ExactField(images.train.x[:100].reshape(100, -1).astype(np.float64), k=4)

    def velocity(x_t, t_B, labels_B=None):
        t, z_MD = END * float(t_B[0]), x_t.numpy().reshape(len(x_t), -1)
        return torch.from_numpy(END * (exact.denoise(z_MD, t, 1 - t) - z_MD) / (1 - t)).reshape(x_t.shape)

    return velocity


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_gaussian_data_are_reached_within_the_tolerance_of_every_step(scale):
    """A step errs by less than TOLERANCE (1 + |x|) in the mean square, which the flow stretches by at most 1.12."""
    noise = noise_like(40, 1, 4, 4)
    predict, calls = counted(gaussian_velocity)
    ours = adaptive.sample(predict, noise, scale)
    steps = len(calls) / 6  # evaluations of a step of dopri5, a rejected one among them
    error = float((scale * ours - (MEAN + STD * noise)).square().mean().sqrt())
    assert error <= steps * 1.12 * TOLERANCE * (1 + float(noise.abs().max()))
    assert steps < 40


def test_the_exact_field_is_followed_as_scipy_follows_it(field):
    noise = noise_like(12, 1, 8, 8)

    def flat(t, z):
        return field(torch.from_numpy(z).reshape(noise.shape), torch.full((len(noise),), t)).numpy().ravel()

    theirs = solve_ivp(flat, (0, 1), noise.numpy().ravel(), method="DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    predict, calls = counted(field)
    ours = adaptive.sample(predict, noise, 1.0).numpy().ravel()
    error = np.sqrt(np.mean((ours - theirs) ** 2))
    assert error <= len(calls) / 6 * TOLERANCE * (1 + np.abs(theirs).max())


def test_halving_euler_s_steps_halves_its_distance_to_the_adaptive_samples(field):
    noise = noise_like(6, 1, 8, 8, seed=1)
    goal = adaptive.sample(field, noise, 2.0)
    distances = [float((euler.sample(field, noise, steps, 2.0) - goal).norm()) for steps in (100, 200, 400)]
    assert [before / after for before, after in zip(distances[:-1], distances[1:], strict=True)] == pytest.approx([2, 2], rel=0.1)


def test_samples_keep_their_labels_and_times_are_those_of_training(monkeypatch):
    """In pieces, the last of them smaller; a velocity that is the label ends at noise + label."""
    monkeypatch.setattr(chunks, "SIZE", 4)
    noise, labels = noise_like(10, 1, 2, 2).float(), torch.arange(10)
    predict, calls = counted(lambda x_t, t_B, labels_B: labels_B.reshape(-1, 1, 1, 1).expand_as(x_t).float())
    ours = adaptive.sample(predict, noise, 1.0, labels)
    assert ours.numpy() == pytest.approx((noise + labels.reshape(-1, 1, 1, 1)).numpy(), abs=1e-4)
    assert {len(x_t) for _, x_t, _ in calls} == {4, 2}
    assert all(t_B.shape == labels_B.shape == (len(x_t),) for t_B, x_t, labels_B in calls)
    assert {t_B.dtype for t_B, _, _ in calls} == {torch.float32}
    assert all(0 <= float(t_B.min()) == float(t_B.max()) <= 1 for t_B, _, _ in calls)


def test_a_missing_solver_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(TrainingError, match=r"0 in evaluation\.sampler_steps, need torchdiffeq: pip install 'immref\[train\]'"):
        adaptive.sample(gaussian_velocity, noise_like(2, 1, 2, 2), 1.0)
