"""What pairing does to distances, radius and clusters, measured as `immref.miscibility` does, against the predictions of `immref.theory`.

Statistical verdicts at fixed seeds; the predictions are exact for images of one length.
"""

from functools import cache

import numpy as np
import pytest
from scipy import stats

import immref
from immref import KNN, Pairing, Seed, miscibility, theory
from immref_spec import bands, compare
from immref_spec.strategies import Values
from immref_spec.subjects import Subject

COUNT = 16384
K = 8  # candidates
GROUPS = 1024  # pairs of images whose noise clusters are measured
CLUSTER = 16  # noises in a cluster
LABELS = 4
MEAN_SQUARES = {64: 1.0, 192: 0.25}  # of the images' coordinates, by dimension


@cache
def images(dimension: int) -> Values:
    """Images of many directions, all of one length up to rounding."""
    x_BD = np.random.default_rng([dimension, 5]).standard_normal((COUNT, dimension))
    return np.asarray(x_BD * (np.sqrt(MEAN_SQUARES[dimension] * dimension) / bands.norms(x_BD))[:, None], dtype=np.float32)


def noise_of(subject: Subject, x_BD: Values, pairing: Pairing, seed: int) -> Values:
    """The noise that the subject pairs with the images, in float64."""
    paired = immref.pair(subject.asarray(x_BD.copy()), pairing, rng=Seed(seed), backend=subject.backend)
    return subject.asnumpy(paired.noise).astype(np.float64)


def clusters(subject: Subject, x_PID: Values, pairing: Pairing, seed: int) -> Values:
    """Squared cluster distances of pairs of images, CLUSTER noises for each image."""
    dimension = x_PID.shape[-1]
    noise_BD = noise_of(subject, np.repeat(x_PID.reshape(-1, dimension), CLUSTER, axis=0), pairing, seed)
    noise_PIND = subject.asarray(noise_BD.reshape(len(x_PID), 2, CLUSTER, dimension).astype(np.float32))
    return np.asarray([miscibility.cluster_distance(noise_PIND[pair, ...]) ** 2 for pair in range(len(x_PID))])


def expected(values: Values, mean: float, what: str) -> None:
    """Verdict: independent values have this mean (their own standard error, the normal law)."""
    z = (float(np.mean(values)) - mean) / (float(np.std(values)) / np.sqrt(len(values)))
    compare.likely(float(2 * stats.norm.sf(abs(z))), what, f"mean {np.mean(values):.6g} for {mean:.6g}, {z:.2f} standard errors off")


@pytest.mark.parametrize("dimension", MEAN_SQUARES)
def test_knn_comes_nearer_as_predicted(subject: Subject, dimension: int) -> None:
    """The mean distance falls from the prediction for one noise to that for the nearest of k."""
    x_BD, predicted = images(dimension), theory.knn(dimension, MEAN_SQUARES[dimension], K)
    noise_BD = noise_of(subject, x_BD, KNN(K), 20)
    expected(bands.norms(noise_BD - x_BD), predicted.after, f"distance to the nearest of {K} at D = {dimension}")


@pytest.mark.parametrize("dimension", MEAN_SQUARES)
def test_knn_s_radius_and_pull_are_as_predicted(subject: Subject, dimension: int) -> None:
    """E n² per coordinate, and the mean coordinate along the image."""
    x_BD, predicted = images(dimension), theory.knn(dimension, MEAN_SQUARES[dimension], K)
    noise_BD = noise_of(subject, x_BD, KNN(K), 21)
    where = f"of the nearest of {K} at D = {dimension}"
    expected(np.mean(noise_BD**2, axis=1), predicted.mean_square, f"E n² {where}")
    expected(np.sum(noise_BD * x_BD, axis=1) / bands.norms(x_BD), predicted.pull, f"pull {where}")


def test_vanilla_clusters_lie_as_far_apart_as_chance_puts_them(subject: Subject) -> None:
    """N/2 times the squared distance of two clusters of N vanilla noises is chi2(D)."""
    dimension = 64
    x_PID = images(dimension)[: 2 * GROUPS].reshape(GROUPS, 2, dimension)
    squared_P = clusters(subject, x_PID, Pairing(), 22)
    compare.chi_square(float(CLUSTER / 2 * squared_P.sum()), GROUPS * dimension, "squared distance of two clusters of vanilla noise")


def test_knn_clusters_lie_as_far_apart_as_predicted(subject: Subject) -> None:
    """The squared distance of the clusters of two images at a right angle."""
    dimension = 64
    x_PID = images(dimension)[: 2 * GROUPS].astype(np.float64).reshape(GROUPS, 2, dimension)
    first_PD, second_PD = x_PID[:, 0], x_PID[:, 1]
    across_PD = second_PD - first_PD * (np.sum(first_PD * second_PD, axis=1) / dimension)[:, None]
    across_PD *= (np.sqrt(dimension) / bands.norms(across_PD))[:, None]
    x_PID = np.stack([first_PD, across_PD], axis=1).astype(np.float32)
    predicted = theory.cluster_distance(dimension, CLUSTER, theory.knn(dimension, MEAN_SQUARES[dimension], K))
    expected(clusters(subject, x_PID, KNN(K), 23), predicted**2, f"squared distance of two clusters of KNN noise, k = {K}")


def test_vanilla_noise_does_not_tell_the_label(subject: Subject) -> None:
    """A classifier fitted to half of the noises is right on the others as often as chance: binomial, whatever it learned."""
    label_B = np.arange(COUNT) % LABELS
    skew = miscibility.class_skew(subject.asarray(noise_of(subject, images(64), Pairing(), 24).astype(np.float32)), label_B)
    found = stats.binomtest(round(skew.accuracy * COUNT / 2), COUNT // 2, 1 / LABELS)
    compare.likely(float(found.pvalue), "class skew of vanilla noise", f"accuracy {skew.accuracy:.4g}, chance {skew.chance:.4g}")


def test_vanilla_noise_has_the_divergence_of_its_sample_size(subject: Subject) -> None:
    """Plug-in KL against its exact mean and variance, as a multiple of chi2 with both."""
    dimension = 64
    moments = miscibility.Moments(dimension)
    for half_BD in np.split(noise_of(subject, images(dimension), Pairing(), 25), 2):
        moments.add(subject.asarray(half_BD.astype(np.float32)))
    rank = np.linalg.matrix_rank(moments.covariance_DD)
    compare.same(int(rank), dimension, f"dimensions that {COUNT} vanilla noises span at D = {dimension}")
    mean, std = theory.vanilla_kl(COUNT, dimension)
    degrees = 2 * (mean / std) ** 2
    plug_in = miscibility.gaussian_divergence(moments).plug_in
    compare.chi_square(plug_in / mean * degrees, round(degrees), f"KL of {COUNT} vanilla noises at D = {dimension}")
