"""Predictions against closed forms, their own limits, simulation and published numbers."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.special import ive

import immref
from immref import LinearAssignment, Seed, theory
from immref.miscibility import Moments, distance_drop, gaussian_divergence

SIGMAS = 5  # a correct prediction misses by more standard errors once in two million


def images(count, dimension, mean_square, seed=0):
    """Isotropic images of one length, float32."""
    x = np.random.default_rng(seed).standard_normal((count, dimension))
    return (x * (math.sqrt(mean_square * dimension) / np.linalg.norm(x, axis=1))[:, None]).astype(np.float32)


def near(values, expected):
    """Whether the mean of independent values is `expected` within their standard error."""
    return abs(np.mean(values) - expected) < SIGMAS * np.std(values) / math.sqrt(len(values))


def test_the_maximum_of_normals_has_its_known_values():
    root = math.sqrt(math.pi)
    known = {1: 0, 2: 1 / root, 3: 3 / (2 * root), 4: 3 / root * (0.5 + math.asin(1 / 3) / math.pi)}
    assert [theory.expected_maximum(k) for k in known] == pytest.approx(list(known.values()), abs=1e-12)
    assert [round(theory.expected_maximum(k), 4) for k in (8, 16, 32, 64, 128)] == [1.4236, 1.7660, 2.0697, 2.3437, 2.5946]


def test_the_maximum_of_very_many_follows_gumbel():
    """For large k the median of the maximum is Φ⁻¹(2^(-1/k)) and the mean lies (γ + ln ln 2)/z above it, to order 1/z³."""
    z = -stats.norm.ppf(-math.expm1(-math.log(2) / 10**12))
    assert theory.expected_maximum(10**12) == pytest.approx(z + (np.euler_gamma + math.log(math.log(2))) / z, abs=2 / z**3)


@pytest.mark.parametrize("dimension", [1, 2, 64, 3072, 196_608])
@pytest.mark.parametrize("mean_square", [0.0, 0.25, 1.0, 10.0])
def test_one_candidate_is_vanilla(dimension, mean_square):
    predicted = theory.knn(dimension, mean_square, 1)
    assert predicted.distance_drop == 0
    assert predicted.mean_square == pytest.approx(1.0, abs=1e-9)
    assert predicted.pull == pytest.approx(0.0, abs=1e-9)
    assert predicted.kl_excess == pytest.approx(0.0, abs=1e-9)


def test_at_x_0_the_nearest_is_the_shortest():
    """D = 2: |n|² is exponential with mean 2, and the least of k has a k-th of it."""
    predicted = theory.knn(2, 0.0, 5)
    assert predicted.mean_square == pytest.approx(1 / 5, rel=1e-9)
    assert predicted.after == pytest.approx(math.sqrt(math.pi / 2 / 5), rel=1e-9)
    assert predicted.pull == 0


def test_the_ratio_of_bessel_functions_agrees_with_scipy():
    for order, argument in ((0.5, 1.0), (1.0, 30.0), (32.0, 50.0), (100.0, 1.0), (96.0, 400.0)):
        expected = ive(order, argument) / ive(order - 1, argument)
        assert theory._bessel_ratio(order, np.asarray([argument]))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [2, 8, 64])
@pytest.mark.parametrize(("dimension", "mean_square"), [(5, 1.0), (64, 0.25), (200, 2.0)])
def test_knn_does_what_is_predicted(dimension, mean_square, k):
    x = images(20_000, dimension, mean_square)
    noise = immref.knn(x, k, rng=Seed(3, step=k)).astype(np.float64)
    predicted, distance = theory.knn(dimension, mean_square, k), np.linalg.norm(noise - x, axis=1)
    assert near(distance, predicted.after)
    assert near((distance - predicted.after) ** 2, predicted.after_std**2)
    assert near(np.sum(noise * x, axis=1) / math.sqrt(mean_square * dimension), predicted.pull)
    assert near(np.mean(noise**2, axis=1), predicted.mean_square)


@pytest.mark.parametrize("mean_square", [0.25, 1.0, 4.0])
def test_the_leading_terms_are_the_limit(mean_square):
    """The next term is smaller by a factor of order 1/sqrt(D): a hundred times the dimension leaves a tenth of the error."""
    errors = []
    for dimension in (1000, 100_000):
        squared, e_k = mean_square * dimension, theory.expected_maximum(8)
        width, predicted = math.sqrt(2 * dimension + 4 * squared), theory.knn(dimension, mean_square, 8)
        leading = (-e_k * width / (2 * (dimension + squared)), 2 * math.sqrt(squared) * e_k / width, -2 * e_k / width)
        exact = (predicted.distance_drop, predicted.pull, predicted.mean_square - 1)
        errors.append(np.abs(np.divide(leading, exact) - 1))
    assert errors[0].max() < 5 / math.sqrt(1000)
    assert (errors[1] < 0.2 * errors[0]).all()


@pytest.mark.parametrize(("mean_square", "published"), [(0.25, 1.778), (1.0, 1.568)])
def test_the_drop_at_cifar_size_is_the_one_published(mean_square, published):
    """In percent, D = 3,072, k = 8; to the two decimals that Table 4 of the paper prints."""
    assert round(-100 * theory.knn(3072, mean_square, 8).distance_drop, 2) == round(published, 2)


def test_the_divergence_of_vanilla_at_the_paper_s_size():
    mean, std = theory.vanilla_kl(50_000, 3072)
    assert round(mean, 3) == 48.231
    assert round(std, 3) == 0.031
    assert abs(mean - 48.25) < std  # the paper's number for vanilla is the bias of its sample


def test_vanilla_kl_has_the_mean_and_spread_of_many_samples():
    rng, runs, found = np.random.default_rng(0), 400, []
    for _ in range(runs):
        moments = Moments(16)
        moments.add(rng.standard_normal((100, 16)))
        found.append(gaussian_divergence(moments).plug_in)
    mean, std = theory.vanilla_kl(100, 16)
    assert near(found, mean)
    assert abs(np.std(found) / std - 1) < SIGMAS / math.sqrt(runs)  # twice the normal law's 1/sqrt(2 runs): KL has a longer tail


def test_the_divergence_of_knn_is_the_excess_predicted():
    """Isotropic images; the corrected KL's standard deviation is that of D (1 - λ)/2 times the mean of |n|²/D, and vanilla's."""
    dimension, count, mean_square = 64, 20_000, 1.0
    noise = immref.knn(images(count, dimension, mean_square), 8, rng=5)
    moments = Moments(dimension)
    moments.add(noise)
    predicted, corrected = theory.knn(dimension, mean_square, 8), gaussian_divergence(moments).corrected
    radius_error = np.std(np.mean(noise**2, axis=1)) / math.sqrt(count)
    slope = dimension / 2 * abs(1 - 1 / predicted.mean_square)
    assert abs(corrected - predicted.kl_excess) < SIGMAS * math.hypot(slope * radius_error, theory.vanilla_kl(count, dimension)[1])
    assert predicted.kl_excess > 20 * slope * radius_error  # the test can tell the excess from none


def test_cluster_distances_of_the_paper():
    """Section 3.2: 10,000 noises of 3,072 numbers an image; the paper has .92 for vanilla, above the formula, and 2.17 for KNN."""
    assert theory.cluster_distance(3072, 10_000) == pytest.approx(0.7838, abs=5e-5)
    found = [theory.cluster_distance(3072, 10_000, theory.knn(3072, m, 8)) for m in (0.25, 1.0, 4.0)]
    assert [round(value, 2) for value in found] == [1.39, 1.82, 2.05]
    same = theory.cluster_distance(64, 100, theory.knn(64, 1.0, 8), cosine=1.0)
    assert same < theory.cluster_distance(64, 100)  # copies of one image: no pull between them, and slightly short noise


@pytest.mark.parametrize("batch", [64, 512])
def test_assignment_of_isotropic_images_stays_just_below_the_bound(batch):
    """The scores <n, x>/|x| of a batch are nearly independent normal numbers, whose best assignment SciPy knows."""
    dimension, rows, drops, gains = 2000, 2048, [], []
    for step in range(rows // batch):
        paired = immref.pair(images(batch, dimension, 1.0, step), LinearAssignment(), rng=Seed(0, step=step))
        drops.append(distance_drop(paired.before, paired.after))
        score = np.random.default_rng(step).standard_normal((batch, batch))
        gains.append(score[linear_sum_assignment(score, maximize=True)].mean())
    bound, one = theory.assignment_drop(dimension, 1.0, batch), theory.knn(dimension, 1.0, 1)
    expected = bound * np.mean(gains) / theory.expected_maximum(batch)
    band = SIGMAS * one.after_std / one.before / math.sqrt(rows) + abs(bound) / math.sqrt(dimension)  # of `before`, and the next term
    assert abs(np.mean(drops) - expected) < band < 0.2 * abs(bound)
    assert 0.9 < np.mean(gains) / theory.expected_maximum(batch) < 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: theory.expected_maximum(0), ValueError, "k must be an integer ≥ 1, got 0"),
        (lambda: theory.knn(0, 1.0, 2), ValueError, "dimension must be an integer ≥ 1, got 0"),
        (lambda: theory.knn(4, -1.0, 2), ValueError, "mean_square must be finite and ≥ 0, got -1.0"),
        (lambda: theory.knn(4, "one", 2), TypeError, "mean_square must be a number, got 'one'"),
        (lambda: theory.assignment_drop(4, math.nan, 2), ValueError, "mean_square must be finite"),
        (lambda: theory.vanilla_kl(64, 64), ValueError, "count must be an integer ≥ 65, got 64"),
        (lambda: theory.cluster_distance(64, 0), ValueError, "count must be"),
        (lambda: theory.cluster_distance(64, 1, cosine=2.0), ValueError, r"cosine must be in \[-1, 1\], got 2.0"),
        (lambda: theory.cluster_distance(64, 1, theory.knn(65, 1.0, 2)), ValueError, "for dimension 64, got one for 65"),
    ],
)
def test_what_cannot_be_predicted_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
