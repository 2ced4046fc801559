"""Measures against closed forms and an independent implementation."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from immref.miscibility import curvature, distance_drop, frechet_distance, mean_square


def test_frechet_distance_agrees_with_the_matrix_square_root():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)), 1 + rng.standard_normal((150, 6))
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_shifted_copies_is_the_squared_shift():
    features = np.random.default_rng(0).standard_normal((50, 3))
    assert frechet_distance(features, features + np.asarray([3.0, 4.0, 0.0])) == pytest.approx(25.0)


def test_frechet_distance_of_a_collapsed_set_is_the_variance_it_lacks():
    features = np.random.default_rng(0).standard_normal((500, 4))
    constant = np.tile(features.mean(axis=0), (10, 1))
    assert frechet_distance(constant, features) == pytest.approx(np.trace(np.cov(features, rowvar=False)))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "N ≥ 2"),
        (np.ones((5, 3)), np.ones((5, 2)), "same width"),
        (np.full((5, 3), np.nan), np.ones((5, 3)), "finite"),
    ],
)
def test_frechet_distance_refuses(first, second, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(first, second)


def test_small_measures():
    assert distance_drop(50.0, 49.0) == pytest.approx(-0.02)
    assert mean_square(np.asarray([[1.0, -2.0], [3.0, 0.0]])) == 3.5
    line = np.linspace(0, 1, 5)[:, None, None] * np.ones((1, 2, 3))
    assert curvature(line) == pytest.approx(0.0)
    corner = np.asarray([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]])  # speeds (2, 0), (0, 2) around the line (1, 1)
    assert curvature(corner) == pytest.approx(1.0)
