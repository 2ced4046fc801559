"""Measures of what pairing did, and of how far two sets of features are apart (those in float64, on the host)."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.linalg import eigh, eigvalsh

FloatArray = np.ndarray[Any, Any]


def distance_drop(before: Any, after: Any) -> float:
    """Relative change of the mean image-noise distance (the paper's 'L2 Dist. Δ', Table 4); -0.016 is 1.6 % nearer."""
    return float(after) / float(before) - 1.0


def mean_square(noise: Any) -> float:
    """E n² per coordinate of an array of any library: 1 for standard normal noise, less where pairing prefers short noise."""
    xp = array_namespace(noise)
    return float(xp.mean(noise**2))


def _moments(features_ND: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and (unbiased) covariance of N feature vectors, N ≥ 2."""
    features_ND = np.asarray(features_ND, dtype=np.float64)
    if features_ND.ndim != 2 or features_ND.shape[0] < 2:
        raise ValueError(f"features must have shape (N ≥ 2, D), got {features_ND.shape}")
    if not np.isfinite(features_ND).all():
        raise ValueError("features must be finite, got NaN or infinity")
    return features_ND.mean(axis=0), np.atleast_2d(np.cov(features_ND, rowvar=False))


def frechet_distance(first_ND: FloatArray, second_MD: FloatArray) -> float:
    """Squared Fréchet distance between Gaussians fitted to two feature sets: |μ₁ - μ₂|² + tr(C₁ + C₂ - 2 (C₁C₂)^½).

    The formula of the FID; which features were taken decides what it means, so name them beside it.

    Parameters
    ----------
    first_ND, second_MD : arrays (N, D) and (M, D), finite, at least two rows each

    Returns
    -------
    float ≥ 0 up to rounding; biased upwards by finite N, so print its floor on real data beside it
    """
    (mean1, covariance1), (mean2, covariance2) = _moments(first_ND), _moments(second_MD)
    if mean1.shape != mean2.shape:
        raise ValueError(f"features must have the same width, got {mean1.shape[0]} and {mean2.shape[0]}")
    values, vectors = eigh(covariance1)
    root1 = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(eigvalsh(root1 @ covariance2 @ root1), 0)).sum()
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(covariance1) + np.trace(covariance2) - 2 * cross)


def curvature(states_TMD: FloatArray) -> float:
    """How bent sampling paths are: mean squared deviation of the speed from the straight line, over its squared length.

    0 for straight paths. `states_TMD` holds M paths at T + 1 equally spaced times.
    """
    states_TMD = np.asarray(states_TMD, dtype=np.float64)
    speed_TMD = np.diff(states_TMD, axis=0) * (len(states_TMD) - 1)
    line_MD = states_TMD[-1] - states_TMD[0]
    return float(np.mean(np.sum((speed_TMD - line_MD) ** 2, axis=-1)) / np.mean(np.sum(line_MD**2, axis=-1)))
