"""The noise that sampling starts from: fitted, paired, and N(0, I) where pairing leaves the noise's law alone."""

import numpy as np
import pytest

import immref
from immref import KNN, LinearAssignment, Vanilla
from immref_trainers.samplers import priors

D = 64  # numbers per digit; more than priors.RANK, so that some directions share one variance
BATCH, COUNT = 200, 20_000
SIGMAS = 6  # of a normal variable; one false alarm in 5e8


def paired(images, pairing):
    return priors.paired_noise(images.train, pairing, BATCH, COUNT, seed=0, place=lambda batch: batch)[0]


def samples_of(fitted, count=COUNT):
    return priors.moment(fitted, np.random.default_rng(1).standard_normal((count, 1, 8, 8), dtype=np.float32)).reshape(count, D)


@pytest.fixture(scope="module")
def lopsided():
    """Noise with a mean, and with directions much longer or shorter than the others."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    std = np.concatenate([np.linspace(2.0, 3.0, 16), np.linspace(0.2, 0.5, 16), np.full(32, 1.5)])
    return (0.3 * rng.standard_normal(D) + (rng.standard_normal((COUNT, D)) * std) @ basis.T).astype(np.float32).reshape(COUNT, 1, 8, 8)


def test_moment_has_the_mean_and_the_covariance_that_were_fitted(lopsided):
    fitted = priors.fit_moment(lopsided)
    seen = lopsided.reshape(COUNT, D).astype(np.float64)
    covariance = np.cov(seen, rowvar=False)
    kept = fitted["directions"].astype(np.float64)
    assert kept.shape == (priors.RANK, D)
    drawn = samples_of(fitted)
    deviation = np.sqrt(np.diag(covariance) / COUNT)
    assert np.all(np.abs(drawn.mean(axis=0) - seen.mean(axis=0)) < SIGMAS * deviation)

    found, wanted = (np.einsum("rd,de,re->r", kept, matrix, kept) for matrix in (np.cov(drawn, rowvar=False), covariance))
    assert np.all(np.abs(found / wanted - 1) < SIGMAS * np.sqrt(2 / COUNT))
    assert wanted.max() > 4 > 0.3 > wanted.min()


def test_directions_that_are_not_kept_share_their_mean_variance(lopsided):
    fitted = priors.fit_moment(lopsided)
    seen = lopsided.reshape(COUNT, D).astype(np.float64)
    kept = fitted["directions"].astype(np.float64)
    across = np.eye(D) - kept.T @ kept
    found, wanted = (np.trace(across @ np.cov(noise, rowvar=False)) / (D - len(kept)) for noise in (samples_of(fitted), seen))
    assert abs(found / wanted - 1) < SIGMAS * np.sqrt(2 / (COUNT * (D - len(kept))))


@pytest.mark.parametrize("pairing", [Vanilla(), KNN(k=4), LinearAssignment(), KNN(k=4, scale=2.0)], ids=str)
def test_paired_noise_has_the_dose_of_its_pairing(images, pairing):
    """E n² of the noise that a prior is fitted to is that of the noise that `pair` hands to training."""
    rows = np.random.default_rng(3).integers(len(images.train.x), size=(COUNT // BATCH, BATCH))
    trained = np.concatenate([immref.pair(images.train.x[some], pairing, rng=immref.Seed(9, step)).noise for step, some in enumerate(rows)])
    first, second = (float(np.square(noise).mean()) for noise in (paired(images, pairing), trained))
    # a sum of D squares has the variance 2 D, and no pairing here makes it larger
    assert abs(first - second) < SIGMAS * np.sqrt(2 * 2 / (D * COUNT))
    if pairing.method == "knn":
        assert first < 1 - SIGMAS * np.sqrt(2 / (D * COUNT))


def test_paired_noise_repeats_itself_and_hands_out_as_many_as_were_asked_for(images):
    first, again, other = (priors.paired_noise(images.train, KNN(k=4), 32, 50, seed, lambda batch: batch)[0] for seed in (0, 0, 1))
    assert first.shape == (50, 1, 8, 8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("pairing", [Vanilla(), LinearAssignment()], ids=str)
def test_where_pairing_keeps_the_noise_s_law_the_fit_is_standard_normal(images, pairing):
    fitted = priors.fit_moment(paired(images, pairing))
    assert np.abs(fitted["mean"]).max() < SIGMAS / np.sqrt(COUNT)
    # all eigenvalues of the sample covariance of N(0, I) lie within (1 ± (√(D / N) + t / √N))² but for odds of 2 exp(-t² / 2)
    edge = np.sqrt(D / COUNT) + SIGMAS / np.sqrt(COUNT)
    assert 1 - edge < fitted["std"].min() <= fitted["std"].max() < 1 + edge
    assert 1 - edge < fitted["rest_std"][0] < 1 + edge


def test_knn_noise_is_not_standard_normal_and_the_fit_says_so(images):
    fitted = priors.fit_moment(paired(images, KNN(k=4)))
    assert fitted["std"].min() < 1 - np.sqrt(D / COUNT) - SIGMAS / np.sqrt(COUNT)


def test_gaussian_starts_are_the_seed_s_alone():
    first, again, next_draw, other = (priors.gaussian((5, 3), seed, draw) for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_draw)
    assert not np.array_equal(first, other)
