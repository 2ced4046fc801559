"""The closed-form field against direct evaluation, brute force and its own limits."""

import numpy as np
import pytest
from scipy.stats import ncx2

import immref
from immref.exact import ExactField, log_survival
from immref.miscibility import curvature


def test_the_survival_table_agrees_with_scipy():
    rng = np.random.default_rng(0)
    field = ExactField(rng.standard_normal((50, 64)), k=8)
    radius = rng.uniform(2.0, 25.0, (200, 50))
    exact = ncx2.logsf(radius**2, 64, field.square_N)
    assert np.abs(log_survival(field.survival, field.square_N, radius) - exact)[exact > -500].max() < 1e-5


def test_one_candidate_is_the_softmax_of_gaussian_densities():
    data, z, a, b = np.asarray([[1.0, 2.0], [-1.0, 0.0]]), np.asarray([[0.3, -0.2]]), 0.6, 0.4
    density = np.exp(-0.5 * np.square((z - a * data) / b).sum(axis=1))
    assert ExactField(data).denoise(z, a, b) == pytest.approx(density @ data / density.sum() * np.ones((1, 2)))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_posterior_matches_brute_force(k):
    """Draw (x, n) as training does; near a point z the share of each datum is its weight."""
    data = np.asarray([[1.0, 0.5], [-0.5, 1.0], [0.0, -1.0]])
    rng, count, a, b = np.random.default_rng(0), 400_000, 0.5, 0.5
    label = rng.integers(3, size=count)
    noise = immref.knn(data[label], k, rng=1)
    z = a * data[label] + b * noise
    point = np.asarray([0.4, 0.6])
    near = np.linalg.norm(z - point, axis=1) < 0.12
    share = np.bincount(label[near], minlength=3) / near.sum()
    weight = ExactField(data, k).weights(point[None], a, b)[0]
    assert near.sum() > 1000
    assert np.abs(share - weight).max() < 5 * 0.5 / np.sqrt(near.sum()) + 0.01  # sampling error, and the disc's own width


def test_more_candidates_straighten_the_paths():
    rng = np.random.default_rng(0)
    data, noise = 0.5 * rng.standard_normal((100, 64)), rng.standard_normal((50, 64))
    bends = [curvature(np.stack(ExactField(data, k).sample(noise, 8))) for k in (1, 8, 64)]
    assert bends[0] > bends[1] > bends[2] > 0


def test_one_step_from_pure_noise_gives_vanilla_the_mean_image():
    data = np.random.default_rng(0).standard_normal((20, 5))
    end = ExactField(data).sample(np.random.default_rng(1).standard_normal((3, 5)), 1)[-1]
    assert end == pytest.approx(np.tile(data.mean(axis=0), (3, 1)))


@pytest.mark.parametrize(
    ("data", "k", "words"),
    [(np.zeros((0, 3)), 1, "data_ND must be"), (np.full((2, 2), np.nan), 1, "data_ND must be"), (np.ones((2, 2)), 0, "k must be")],
)
def test_bad_input(data, k, words):
    with pytest.raises(ValueError, match=words):
        ExactField(data, k)
