"""Slow, obvious answers in NumPy float64. Nothing here imports immref."""

from itertools import permutations
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment

Values = np.ndarray[Any, Any]


def distance(x_D: Values, n_D: Values) -> float:
    """|n - x| of one image and one noise."""
    return float(np.sqrt(sum((float(n) - float(x)) ** 2 for x, n in zip(x_D, n_D, strict=True))))


def distances(x_BD: Values, noise_BKD: Values) -> Values:
    """|n_bk - x_b| of every candidate."""
    return np.asarray([[distance(x_D, n_D) for n_D in noise_KD] for x_D, noise_KD in zip(x_BD, noise_BKD, strict=True)])


def first_nearest(x_BD: Values, noise_BKD: Values) -> Values:
    """Algorithm 1, line 2: the first candidate at the least distance."""
    best = []
    for row_K in distances(x_BD, noise_BKD):
        winner = 0
        for candidate, value in enumerate(row_K):
            if value < row_K[winner]:
                winner = candidate
        best.append(winner)
    return np.asarray(best, dtype=np.int64)


def split(x_D: Values, n_D: Values) -> tuple[float, float, Values]:
    """A noise seen from its image x ≠ 0: coordinate a along x, squared norm s across it, unit direction t across it."""
    u_D = x_D / np.sqrt(x_D @ x_D)
    along = float(n_D @ u_D)
    across_D = n_D - along * u_D
    squared = float(across_D @ across_D)
    return along, squared, across_D / np.sqrt(squared)


def scalars(x_D: Values, g_D: Values, a_K: Values, s_K: Values) -> tuple[Values, Values]:
    """(a_j, s_j) of candidate 0 and the K others; at x = 0 every candidate lies across."""
    if not x_D.any():
        return np.zeros(1 + len(a_K)), np.concatenate([[g_D @ g_D], a_K**2 + s_K])
    a0, s0, _ = split(x_D, g_D)
    return np.concatenate([[a0], a_K]), np.concatenate([[s0], s_K])


def rebuilt(x_D: Values, g_D: Values, a: float, s: float) -> Values:
    """The noise with coordinates (a, s) that keeps the direction of g across x."""
    if not x_D.any():
        return np.asarray(g_D * np.sqrt(s / (g_D @ g_D)))
    _, _, t_D = split(x_D, g_D)
    return np.asarray(a * x_D / np.sqrt(x_D @ x_D) + np.sqrt(s) * t_D)


def costs(x_BD: Values, noise_BD: Values, cost: str) -> Values:
    """The (B, B) distances, or their squares."""
    plain_BB = np.asarray([np.sqrt(np.sum((noise_BD - x_D) ** 2, axis=1)) for x_D in x_BD])
    return plain_BB if cost == "l2" else plain_BB**2


def best_permutation(cost_BB: Values) -> Values:
    """The cheapest permutation: all of them tried up to six rows, SciPy's solver above."""
    count = len(cost_BB)
    if count > 6:
        return np.asarray(linear_sum_assignment(cost_BB)[1])
    return np.asarray(min(permutations(range(count)), key=lambda order: sum(cost_BB[i, j] for i, j in enumerate(order))))


def philox_normal(words: tuple[int, int, int, int], shape: tuple[int, ...], dtype: str) -> Values:
    """The reference's noise at Seed(seed, step, rank, micro): Philox keyed (seed, step), counter (0, 0, micro, rank)."""
    seed, step, rank, micro = words
    key, counter = np.asarray([seed, step], dtype=np.uint64), np.asarray([0, 0, micro, rank], dtype=np.uint64)
    drawn = np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(shape, dtype=np.dtype(arithmetic(dtype)).type)
    return np.asarray(drawn.astype(dtype))


def arithmetic(dtype: str) -> str:
    """Half precision is drawn in float32."""
    return "float64" if dtype == "float64" else "float32"


def survival(x_BD: Values, noise_BD: Values) -> Values:
    """S(|n - x|²): the chance that one more standard normal candidate lies farther away."""
    x_BD, noise_BD = np.asarray(x_BD, dtype=np.float64), np.asarray(noise_BD, dtype=np.float64)
    squared_B, length_B = np.sum((noise_BD - x_BD) ** 2, axis=1), np.sum(x_BD**2, axis=1)
    return np.asarray(stats.ncx2.sf(squared_B, x_BD.shape[1], length_B))
