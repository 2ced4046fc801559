"""How far a correct result may lie from the oracle: first-order rounding bounds computed from the inputs.

Throughout, u is half the machine epsilon of the arithmetic (float32 for half precision) and
gamma(n) = (n + 8) u bounds the relative error of a sum of n products in any order, the 8 paying for
the subtraction, the square, the root, the casts and the scalars. D numbers per image, B images, K candidates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Band:
    """The largest difference allowed, elementwise, and the sentence that derives it."""

    width: Values | float
    why: str


def arithmetic(dtype: str) -> str:
    """The precision in which arrays of `dtype` are computed: half precision is widened."""
    return "float64" if dtype == "float64" else "float32"


def gamma(count: int, dtype: str) -> float:
    """The relative error bound (count + 8) u of a sum of `count` products."""
    return (count + 8) * float(np.finfo(arithmetic(dtype)).eps) / 2


def norms(v_D: Values) -> Values:
    """Euclidean norms over the last axis."""
    return np.asarray(np.sqrt(np.sum(v_D**2, axis=-1)))


def distance(distance_B: Values, dimension: int, dtype: str) -> Band:
    """Of |n - x| computed from the differences: relative gamma(D), plus what squares may lose by underflow."""
    lost = np.sqrt(dimension * np.finfo(arithmetic(dtype)).smallest_normal)
    return Band(gamma(dimension, dtype) * distance_B + lost, f"(D + 8) u |n - x|, D = {dimension}, u of {arithmetic(dtype)}")


def inner(x_D: Values, n_D: Values, dtype: str) -> Values:
    """Of <n, x>: gamma(D) |n| |x|, plus what products may lose by underflow."""
    dimension = x_D.shape[-1]
    return np.asarray(gamma(dimension, dtype) * norms(x_D) * norms(n_D) + dimension * np.finfo(arithmetic(dtype)).smallest_normal)


def collapsed_squared(x_B1: Values, norm_BK: Values, dimension: int, dtype: str) -> Values:
    """Of |n_j - x|² computed from scalars: 8 gamma(D) (|n_j| + |x|)², from the inner products <x,x>, <x,g>, <g,g>."""
    return np.asarray(8 * gamma(dimension, dtype) * (norm_BK + x_B1) ** 2)


def root(squared: Values, error: Values) -> Values:
    """Of the square root of `squared` known to `error`: error / root, and never more than the root of the error."""
    return np.minimum(error / np.maximum(np.sqrt(squared), 1e-300), np.sqrt(error))


def collapsed_noise(stretch_B: Values, g_B: Values, s0_B: Values, aJ_B: Values, dimension: int, dtype: str) -> Band:
    """Of the norm of n = c g + b x: s_0 = |g|² - a_0² is known to 4 gamma |g|², which c and b inherit."""
    bound = gamma(dimension, dtype)
    condition_B = 4 * g_B**2 / s0_B
    width_B = bound * (stretch_B * g_B * (condition_B + 4) + np.abs(aJ_B))
    return Band(width_B, f"(D + 8) u (c |g| (4 |g|²/s_0 + 4) + |a_J|), D = {dimension}, u of {arithmetic(dtype)}")


def assignment(x_BD: Values, noise_BD: Values, cost: str, dtype: str) -> Values:
    """Of each entry of the (B, B) cost, built from one matrix product: 2 gamma(D + B) (|x| + |n|)² in the square."""
    bound = gamma(x_BD.shape[1] + x_BD.shape[0], dtype)
    squared_BB = 2 * bound * (norms(x_BD)[:, None] + norms(noise_BD)[None, :]) ** 2
    if cost == "sqeuclidean":
        return np.asarray(squared_BB)
    exact_BB = np.sum((x_BD[:, None, :] - noise_BD[None, :, :]) ** 2, axis=-1)
    return root(exact_BB, squared_BB)
