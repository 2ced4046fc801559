"""The law of KNN's noise: statistical verdicts at fixed seeds, collapsed (D ≥ 64) and literal (D < 64) alike.

With S the survival function of the noncentral chi2(D, |x|²), a standard normal candidate has
S(|n - x|²) ~ U(0, 1); the nearest of k has the largest, whose k-th power is U(0, 1) again.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from scipy import stats

import immref
from immref import KNN, Seed
from immref_spec import bands, compare, oracles
from immref_spec.strategies import Values
from immref_spec.subjects import Subject

COUNT = 16384


@cache
def images(dimension: int) -> Values:
    """Images of many lengths, a few of them zero."""
    rng = np.random.default_rng([dimension, 1])
    x_BD = rng.standard_normal((COUNT, dimension)) * rng.uniform(0.2, 1.5, (COUNT, 1))
    x_BD[::16] = 0
    return np.asarray(x_BD, dtype=np.float32)


@cache
def brute_force(dimension: int, k: int) -> Values:
    """Algorithm 1 as everybody writes it: draw k noises for each image, keep the nearest."""
    rng = np.random.default_rng([dimension, k, 2])
    x_BD, best_BD = images(dimension).astype(np.float64), rng.standard_normal((COUNT, dimension))
    for _ in range(k - 1):
        other_BD = rng.standard_normal((COUNT, dimension))
        nearer_B = np.sum((other_BD - x_BD) ** 2, axis=1) < np.sum((best_BD - x_BD) ** 2, axis=1)
        best_BD[nearer_B] = other_BD[nearer_B]
    return best_BD


def paired(subject: Subject, dimension: int, k: int, score: Literal["l2", "dot"] = "l2") -> tuple[Values, Values, Values]:
    """Images, chosen noises and indices in float64 on the host."""
    result: Any = immref.pair(subject.asarray(images(dimension)), KNN(k, score), rng=Seed(dimension, step=k), backend=subject.backend)
    return images(dimension).astype(np.float64), subject.asnumpy(result.noise).astype(np.float64), subject.asnumpy(result.index)


@pytest.mark.parametrize("k", [2, 4, 8])
@pytest.mark.parametrize("dimension", [1, 5, 64, 96])
def test_the_distance_law(subject: Subject, dimension: int, k: int) -> None:
    """S(|n - x|²)^k is U(0, 1), unrelated between images; each candidate is chosen equally often."""
    x_BD, n_BD, index_B = paired(subject, dimension, k)
    level_B = oracles.survival(x_BD, n_BD) ** k
    what = f"S(|n - x|²)^{k} at D = {dimension}"
    compare.uniform(level_B, what)
    z_B = stats.norm.ppf(np.clip(level_B, 1e-12, 1 - 1e-12))
    compare.independent(z_B[::2], z_B[1::2], f"{what} of neighbouring images")
    compare.independent(z_B[: COUNT // 2], z_B[COUNT // 2 :], f"{what} of the two halves of the batch")
    counts_K, expected = np.bincount(index_B, minlength=k), COUNT / k
    compare.same(len(counts_K), k, f"number of candidates ever chosen at k = {k}")
    compare.chi_square(float(np.sum((counts_K - expected) ** 2) / expected), k - 1, f"choices of each of {k} candidates at D = {dimension}")


@pytest.mark.parametrize("dimension", [2, 5, 64])
def test_the_law_of_the_largest_dot_product(subject: Subject, dimension: int) -> None:
    """Score 'dot': Φ(<n, u>)^k ~ U(0, 1) along x; across x the noise is what it was, chi2(D - 1) long and unrelated to the choice."""
    k, keep = 4, np.arange(COUNT) % 16 != 0
    x_BD, n_BD, index_B = paired(subject, dimension, k, "dot")
    u_BD = x_BD[keep] / bands.norms(x_BD[keep])[:, None]
    along_B = np.sum(n_BD[keep] * u_BD, axis=1)
    across_B = np.sum((n_BD[keep] - along_B[:, None] * u_BD) ** 2, axis=1)
    compare.uniform(stats.norm.cdf(along_B) ** k, f"Φ(<n, u>)^{k} at D = {dimension}")
    level_B = stats.chi2.cdf(across_B, dimension - 1)
    compare.uniform(level_B, f"|n|² - <n, u>² against chi2({dimension - 1})")
    compare.independent(stats.norm.ppf(stats.norm.cdf(along_B) ** k), stats.norm.ppf(level_B), f"along and across x at D = {dimension}")
    counts_K, expected = np.bincount(index_B[keep], minlength=k), keep.sum() / k
    compare.chi_square(float(np.sum((counts_K - expected) ** 2) / expected), k - 1, f"choices of each of {k} candidates at D = {dimension}")
    compare.same(int(np.abs(index_B[~keep]).max()), 0, "index of an image of zeros, for which all products are 0")
    first_BD = subject.asnumpy(immref.vanilla(subject.asarray(images(dimension)), rng=Seed(dimension, step=k), backend=subject.backend))
    compare.same(n_BD[~keep].tolist(), first_BD.astype(np.float64)[~keep].tolist(), "noise of an image of zeros")


@pytest.mark.parametrize("dimension", [5, 64])
def test_it_matches_brute_force(subject: Subject, dimension: int) -> None:
    """<n, u>, |n|, and n in fixed directions follow the law of brute force."""
    k, keep = 4, np.arange(COUNT) % 16 != 0
    x_BD, n_BD, _ = (v[keep] for v in paired(subject, dimension, k))
    brute_BD = brute_force(dimension, k)[keep]
    u_BD = x_BD / bands.norms(x_BD)[:, None]
    w_BD = across(x_BD, np.eye(dimension)[1])
    views: dict[str, Callable[[Values], Values]] = {
        "<n, u>, the part along x": lambda v_BD: np.sum(v_BD * u_BD, axis=1),
        "<n, w>, a direction across x": lambda v_BD: np.sum(v_BD * w_BD, axis=1),
        "|n|": bands.norms,
        "the first number of n": lambda v_BD: v_BD[:, 0],
        "n in the diagonal direction": lambda v_BD: v_BD.sum(axis=1),
    }
    for name, view in views.items():
        compare.same_law(view(n_BD), view(brute_BD), f"{name} at D = {dimension}, k = {k}, against brute force")


def test_the_direction_across_is_uniform(subject: Subject) -> None:
    """The unit part t of n across x is uniform on its sphere: (1 + <t, w>)/2 ~ Beta((D - 2)/2, (D - 2)/2), unrelated to <n, u>."""
    dimension, keep = 64, np.arange(COUNT) % 16 != 0
    x_BD, n_BD, _ = (v[keep] for v in paired(subject, dimension, 4))
    u_BD = x_BD / bands.norms(x_BD)[:, None]
    along_B = np.sum(n_BD * u_BD, axis=1)
    t_BD = n_BD - along_B[:, None] * u_BD
    for name, axis_D in (("first number", np.eye(dimension)[0]), ("diagonal", np.ones(dimension))):
        cosine_B = np.sum(t_BD * across(x_BD, axis_D), axis=1) / bands.norms(t_BD)
        level_B = stats.beta.cdf((1 + cosine_B) / 2, (dimension - 2) / 2, (dimension - 2) / 2)
        compare.uniform(level_B, f"direction across x, seen from the {name}")
        z_B = stats.norm.ppf(level_B)
        compare.independent(z_B, along_B - along_B.mean(), f"direction across x, seen from the {name}, and the part along it")
        compare.independent(
            z_B, bands.norms(t_BD) - np.sqrt(dimension), f"direction across x, seen from the {name}, and the length across it"
        )


def across(x_BD: Values, axis_D: Values) -> Values:
    """For each image the unit direction orthogonal to it that lies nearest to one axis, the same for all images."""
    w_BD = axis_D - x_BD * (x_BD @ axis_D / np.sum(x_BD**2, axis=1))[:, None]
    return np.asarray(w_BD / bands.norms(w_BD)[:, None])
