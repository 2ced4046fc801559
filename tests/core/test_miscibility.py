"""Measures against closed forms and independent implementations; their laws against wrong backends."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import norm

import immref
from immref import LinearAssignment, reference, theory
from immref.miscibility import (
    Moments,
    class_skew,
    cluster_distance,
    curvature,
    distance_drop,
    frechet_distance,
    gaussian_divergence,
    mean_square,
)
from immref_spec import judging, subjects
from immref_spec.mutants import MUTANTS, Mutant


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


def test_cluster_distance_is_the_mean_over_all_pairs():
    noise = np.random.default_rng(0).standard_normal((5, 7, 3, 2, 2))
    means = noise.mean(axis=1).reshape(5, -1)
    expected = np.mean([np.linalg.norm(first - second) for first, second in combinations(means, 2)])
    assert cluster_distance(noise) == pytest.approx(expected, rel=1e-12)
    assert cluster_distance(noise + 7.0) == pytest.approx(expected, rel=1e-9)  # only differences matter


def moments_of(*batches):
    moments = Moments(batches[0].shape[1])
    for batch in batches:
        moments.add(batch)
    return moments


def test_moments_in_batches_and_merged_are_those_of_the_whole():
    rows = 3.0 + np.random.default_rng(0).standard_normal((60, 4)) @ np.diag([1.0, 2.0, 0.5, 3.0])
    merged = moments_of(rows[:7])
    merged.merge(Moments(4))
    merged.merge(moments_of(rows[7:8], rows[8:]))
    for moments in (moments_of(rows), merged):
        assert moments.count == 60
        assert moments.mean_D == pytest.approx(rows.mean(axis=0), rel=1e-12)
        assert moments.covariance_DD == pytest.approx(np.cov(rows, rowvar=False), rel=1e-11, abs=1e-12)


def test_moments_keep_their_digits_far_from_zero_and_leave_the_rows_alone():
    """Sums of squares around 0 would lose all sixteen digits of the variance."""
    rows = 1e8 + np.random.default_rng(0).standard_normal((100, 3))
    copy = rows.copy()
    assert moments_of(rows[:50], rows[50:]).covariance_DD == pytest.approx(np.cov(rows, rowvar=False), rel=1e-6)
    assert np.array_equal(rows, copy)


def test_divergence_is_the_formula_for_two_gaussians():
    """KL of N(μ, C) to N(0, I) through eigenvalues, of rows that are no noise at all."""
    rows = 0.5 + np.random.default_rng(0).standard_normal((50, 4)) @ np.diag([1.0, 2.0, 0.5, 3.0])
    values = np.linalg.eigvalsh(np.cov(rows, rowvar=False))
    expected = np.sum(values - 1 - np.log(values)) / 2 + np.sum(rows.mean(axis=0) ** 2) / 2
    assert gaussian_divergence(moments_of(rows)).plug_in == pytest.approx(expected, rel=1e-12)


def test_the_correction_is_exact_for_any_gaussian():
    """The mean of many corrected values is the true divergence, here .92 nats, where the plug-in is far off."""
    rng, true_std, true_mean = np.random.default_rng(0), np.asarray([0.5, 1.0, 2.0]), np.asarray([0.3, 0.0, -0.2])
    true = float(np.sum(true_std**2 - 1 - 2 * np.log(true_std)) + np.sum(true_mean**2)) / 2
    found = [gaussian_divergence(moments_of(true_mean + true_std * rng.standard_normal((12, 3)))) for _ in range(4000)]
    error = 5 * np.std([one.corrected for one in found]) / np.sqrt(len(found))
    assert abs(np.mean([one.corrected for one in found]) - true) < error
    assert np.mean([one.plug_in for one in found]) - true > 3 * error


def test_class_skew_reaches_the_best_accuracy_there_is():
    """Two labels whose noises are N(±d/2, I): no classifier is right more often than Φ(d/2), and this one nearly as often."""
    rng, apart, label = np.random.default_rng(0), 2.0, np.repeat([3, 5], 10_000)
    noise = rng.standard_normal((20_000, 8))
    noise[:, 0] += np.where(label == 3, -apart / 2, apart / 2)
    skew = class_skew(noise, label)
    best = norm.cdf(apart / 2)
    assert skew.chance == 0.5
    assert skew.standard_error == pytest.approx(0.5 / np.sqrt(10_000))
    assert abs(skew.accuracy - best) < 5 * np.sqrt(best * (1 - best) / 10_000)
    assert skew.present


def test_class_skew_of_vanilla_is_at_chance_within_its_standard_error():
    """Unequal labels, in blocks as in class folders or mixed; the spread over many draws is the one stated."""
    rng, scores = np.random.default_rng(0), []
    label = np.repeat(["cat", "dog", "hen"], [40, 100, 220])
    for _ in range(300):
        order = rng.permutation(len(label))
        skew = class_skew(rng.standard_normal((len(label), 5)), label[order])
        scores.append((skew.accuracy - skew.chance) / skew.standard_error)
    assert abs(np.mean(scores)) < 5 / np.sqrt(300)
    assert np.std(scores) < 1 + 5 / np.sqrt(2 * 300)


def test_assignment_across_labels_is_seen_and_knn_less():
    """Two labels with opposite mean images."""
    rng, label = np.random.default_rng(0), np.arange(2048) % 2
    x = (0.5 * rng.standard_normal((2048, 64)) + np.where(label, 0.5, -0.5)[:, None]).astype(np.float32)
    assigned = [immref.pair(batch, LinearAssignment(), rng=step).noise for step, batch in enumerate(np.split(x, 16))]
    accuracy = [
        class_skew(noise, label).accuracy for noise in (np.concatenate(assigned), immref.knn(x, 4, rng=0), immref.vanilla(x, rng=0))
    ]
    assert accuracy[0] > accuracy[1] + 0.1 > accuracy[2] + 0.2


def test_arrays_of_another_library_are_carried_over():
    noise, label = np.random.default_rng(0).standard_normal((2, 40, 3)), np.arange(80) % 2
    strict = array_api_strict.asarray
    assert cluster_distance(strict(noise)) == cluster_distance(noise)
    rows = noise.reshape(80, 3)
    assert class_skew(strict(rows), strict(label)) == class_skew(rows, label)
    assert gaussian_divergence(moments_of(strict(rows))) == gaussian_divergence(moments_of(rows))


FOUR = np.ones((4, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cluster_distance(np.ones((1, 5, 3))), r"noise must have shape \(I ≥ 2, N, ...\), no axis empty, got \(1, 5, 3\)"),
        (lambda: cluster_distance(np.ones((2, 0, 3))), "no axis empty"),
        (lambda: cluster_distance(np.full((2, 2, 3), np.nan)), "noise must be finite"),
        (lambda: Moments(0), "dimension must be an integer ≥ 1"),
        (lambda: Moments(3).add(FOUR), r"rows must have shape \(N ≥ 1, ...\) with 3 numbers a row, got \(4, 2\)"),
        (lambda: Moments(2).add(np.full((4, 2), np.inf)), "rows must be finite"),
        (lambda: Moments(2).merge(Moments(3)), "moments of 3 numbers do not merge with those of 2"),
        (lambda: moments_of(FOUR[:1]).covariance_DD, "a covariance needs 2 vectors or more, got 1"),
        (lambda: gaussian_divergence(moments_of(FOUR[:2])), "more vectors than their 2 dimensions, got 2"),
        (lambda: gaussian_divergence(moments_of(FOUR)), "the 4 vectors must span their 2 dimensions"),
        (lambda: class_skew(FOUR, np.zeros(3)), r"shapes \(B, ...\) and \(B,\), got \(4, 2\) and \(3,\)"),
        (lambda: class_skew(FOUR, np.zeros(4)), "label must hold two labels or more, each on four rows or more, got 1, the rarest on 4"),
        (lambda: class_skew(np.ones((8, 2)), np.arange(8) // 5), "got 2, the rarest on 3"),
        (lambda: class_skew(np.full((8, 2), np.nan), np.arange(8) % 2), "noise must be finite, got NaN"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def wider(rng, shape, like):
    """Draws noise that is 5 % too wide."""
    return 1.05 * reference.normal(rng, shape, like)


REJECTED = {
    "test_knn_comes_nearer_as_predicted": MUTANTS["last_scalars_unseen"],
    "test_knn_s_radius_and_pull_are_as_predicted": MUTANTS["one_degree_too_many"],
    "test_vanilla_clusters_lie_as_far_apart_as_chance_puts_them": Mutant({"normal": wider}, ""),
    "test_knn_clusters_lie_as_far_apart_as_predicted": MUTANTS["stretch_forgotten"],
    "test_vanilla_noise_does_not_tell_the_label": MUTANTS["rows_apart"],
    "test_vanilla_noise_has_the_divergence_of_its_sample_size": Mutant({"normal": wider}, ""),
}


@pytest.mark.parametrize("law", REJECTED)
def test_each_law_rejects_a_wrong_backend_and_passes_the_reference(law):
    assert judging.judge(f"laws_miscibility.{law}", subjects.of(reference)) is None
    wrong = replace(subjects.of(REJECTED[law].backend()), name="mine")
    assert f"-k {law} --immref-backend mine" in judging.judge(f"laws_miscibility.{law}", wrong)


def test_the_specification_names_every_law_and_the_numbers_of_the_code():
    text = (Path(__file__).parents[2] / "spec" / "miscibility.md").read_text(encoding="utf-8")
    laws = sorted(law for law in judging.laws() if law.startswith("laws_miscibility."))
    assert sorted(set(re.findall(r"laws_\w+\.test_\w+", text))) == laws == sorted(f"laws_miscibility.{name}" for name in REJECTED)
    mean, std = theory.vanilla_kl(50_000, 3072)
    assert f"{mean:.3f} ± {std:.3f}".replace(" 0.", " .") in text
