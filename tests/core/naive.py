"""Somebody else's backend: every primitive as a reader of the specification would first write it, sharing no code with the reference."""

import operator

import numpy as np
from scipy.optimize import linear_sum_assignment

from immref import Seed

name = "naive"
library = np


def accepts(array):
    return isinstance(array, np.ndarray)


def asarray(array, device):
    return array


def asnumpy(array):
    return np.asarray(array)


def unavailable(device):
    return None


def generator(rng, like):
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, Seed):
        try:
            if "bool" in type(rng).__name__ + str(getattr(rng, "dtype", "")):
                raise TypeError
            rng = Seed(operator.index(rng))
        except TypeError:
            raise TypeError(f"rng must be None, an int, a Seed or a NumPy generator, got {rng!r}") from None
    return np.random.default_rng([rng.seed, rng.step, rng.rank, rng.micro])


def normal(rng, shape, like):
    return rng.standard_normal(shape).astype(like.dtype)


def radial(rng, df, shape, like):
    return rng.standard_normal(shape), 2 * rng.standard_gamma(df / 2, shape)


def nearest_candidate(x_BD, noise_BKD, score):
    distance_BK = np.sqrt(np.sum(np.square(noise_BKD.astype(np.float64) - x_BD[:, None]), axis=2))
    distance_BK[~np.isfinite(distance_BK).all(axis=1)] = np.nan
    score_BK = distance_BK if score == "l2" else -np.sum(noise_BKD.astype(np.float64) * x_BD[:, None], axis=2)
    index_B = np.argmin(score_BK, axis=1)
    return index_B, distance_BK[:, 0], distance_BK[np.arange(len(index_B)), index_B]


def collapse(x_BD, g_BD, a_BK, s_BK):
    noise_BD, index_B = g_BD.copy(), np.zeros(len(x_BD), dtype=np.int64)
    before_B, after_B = np.zeros(len(x_BD)), np.zeros(len(x_BD))
    for b, (x_D, g_D) in enumerate(zip(x_BD.astype(np.float64), g_BD.astype(np.float64), strict=True)):
        length = np.linalg.norm(x_D)
        u_D = x_D / length if length else x_D
        a_K = np.concatenate([[g_D @ u_D], a_BK[b] if length else 0 * a_BK[b]])
        across_D = g_D - a_K[0] * u_D
        s_K = np.concatenate([[across_D @ across_D], s_BK[b] if length else a_BK[b] ** 2 + s_BK[b]])
        distance_K = np.sqrt((a_K - length) ** 2 + s_K)
        index_B[b] = winner = np.argmin(distance_K)
        before_B[b], after_B[b] = distance_K[0], distance_K[winner]
        if winner or not np.isfinite(distance_K[0]):
            noise_BD[b] = a_K[winner] * u_D + np.sqrt(s_K[winner] / s_K[0]) * across_D
    return noise_BD, index_B, before_B, after_B


def assign_batch(x_BD, noise_BD, cost, solver):
    difference_BBD = noise_BD[None].astype(np.float64) - x_BD[:, None]
    cost_BB = np.sum(difference_BBD**2, axis=2) ** (0.5 if cost == "l2" else 1.0)
    finite = np.isfinite(cost_BB).all()
    index_B = linear_sum_assignment(cost_BB)[1] if finite else np.arange(len(x_BD))
    distance_BB = np.sqrt(np.sum(difference_BBD**2, axis=2))
    gap = 0.0 if finite else np.nan
    return index_B, np.diag(distance_BB).copy(), distance_BB[np.arange(len(index_B)), index_B], gap
