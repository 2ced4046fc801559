"""What pairing will do to given data, before any training: predictions for noise near images of one length (SciPy, host).

For an image x of D numbers with mean square m, |x|² = M = m D, the distance r of the nearest of k noises has the
survival function S(r²)^k, S that of the noncentral chi2(D, M); given r, the direction of n - x follows a von Mises–Fisher
law around -x with concentration r |x|. So distance, pull and radius under KNN are integrals over r alone, evaluated
here exactly. Their leading terms for large D, with e_k the expected maximum of k standard normal numbers:

    distance drop ≈ e_k sqrt(2D + 4M) / (2 (D + M)),   pull ≈ 2 sqrt(M) e_k / sqrt(2D + 4M),   E n² ≈ 1 - 2 e_k / sqrt(2D + 4M).
"""

import math
import numbers
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import digamma, log_ndtr, polygamma
from scipy.stats import ncx2

from immref._checks import check_int

FloatArray = np.ndarray[Any, Any]

NODES = 400  # of the Gauss–Legendre rule
REACH = 12.0  # standard deviations on either side that the rule covers: less than 1e-20 lies beyond
TERMS = 200  # of the recurrence for the ratio of Bessel functions: all digits up to m = 10, six up to m = 100


@dataclass(frozen=True)
class Prediction:
    """KNN's noise near images of one length.

    Attributes
    ----------
    before, after : mean L2 distance of an image to one noise, and to the nearest of k
    after_std : standard deviation of the latter
    pull : mean coordinate of the chosen noise along its image, in standard deviations of a noise; 0 for vanilla
    mean_square : E n² per coordinate; 1 for vanilla
    dimension : D
    """

    before: float
    after: float
    after_std: float
    pull: float
    mean_square: float
    dimension: int

    @property
    def distance_drop(self) -> float:
        """Relative change of the mean distance, ≤ 0 (Table 4's 'L2 Dist. Δ')."""
        return self.after / self.before - 1.0

    @property
    def kl_excess(self) -> float:
        """KL(Gaussian with the chosen noise's moments ‖ N(0, I)) in nats, over images of every direction: D/2 (λ - 1 - ln λ), λ = E n².

        Exact for isotropic images; a lower bound for any others of that length, whose pull does not average out.
        """
        excess = self.mean_square - 1.0
        return self.dimension / 2 * (excess - math.log1p(excess))


def expected_maximum(k: int) -> float:
    """e_k, the expected maximum of k standard normal numbers: ∫ 1 - Φ(z)^k - Φ(-z)^k dz over z > 0; exact.

    >>> round(expected_maximum(8), 4)
    1.4236
    """
    check_int(k, "k", 1)
    z, weight = _rule(0.0, REACH)
    return float(weight @ -(np.expm1(k * log_ndtr(z)) + np.exp(k * log_ndtr(-z))))


def knn(dimension: int, mean_square: float, k: int) -> Prediction:
    """Distance, pull and radius of the nearest of k noises (Algorithm 1), by quadrature; exact for any D and k.

    Data of several lengths are averages over their mean squares; at their mean the result is an approximation.

    Parameters
    ----------
    dimension : int ≥ 1
        D, numbers per image.
    mean_square : float ≥ 0
        m = |x|²/D: .25 for pixels of standard deviation .5, 1 for unit variance.
    k : int ≥ 1

    Examples
    --------
    >>> round(knn(3072, 0.25, 8).distance_drop, 5)
    -0.01776
    """
    check_int(dimension, "dimension", 1)
    _check_mean_square(mean_square)
    check_int(k, "k", 1)
    squared = mean_square * dimension
    centre, spread = math.sqrt(dimension + squared), math.sqrt(2 * dimension + 4 * squared) / 2 / math.sqrt(dimension + squared)
    r, weight = _rule(max(0.0, centre - REACH * spread), centre + REACH * spread)
    vanilla = weight * 2 * r * ncx2.pdf(r**2, dimension, squared)
    nearest = vanilla * np.exp((k - 1) * ncx2.logsf(r**2, dimension, squared))
    nearest_mass, length = float(nearest.sum()), math.sqrt(squared)
    after = float(nearest @ r) / nearest_mass
    towards = float(nearest @ (r * _bessel_ratio(dimension / 2, r * length))) / nearest_mass  # E <x - n, x/|x|>
    return Prediction(
        before=float(vanilla @ r) / float(vanilla.sum()),
        after=after,
        after_std=math.sqrt(float(nearest @ (r - after) ** 2) / nearest_mass),
        pull=length - towards,
        mean_square=(squared - 2 * length * towards + float(nearest @ r**2) / nearest_mass) / dimension,
        dimension=dimension,
    )


def cluster_distance(dimension: int, count: int, prediction: Prediction | None = None, cosine: float = 0.0) -> float:
    """Distance of the mean noises of two images, `count` noises each (Section 3.2), as a root mean square.

    sqrt(2D/N) for vanilla; under KNN sqrt(2 p² (1 - cos) + 2 (λD - p²)/N) with pull p and λ = E n². The mean of the distance
    itself is smaller, for vanilla by a factor 1 - 1/(4D).

    Parameters
    ----------
    dimension, count : int ≥ 1
    prediction : Prediction, optional
        Of `knn`; vanilla where left out.
    cosine : float in [-1, 1]
        Of the angle between the two images; 0 for images of unrelated directions.

    Examples
    --------
    >>> round(cluster_distance(3072, 10_000), 3)
    0.784
    """
    check_int(dimension, "dimension", 1)
    check_int(count, "count", 1)
    if not -1 <= cosine <= 1:
        raise ValueError(f"cosine must be in [-1, 1], got {cosine!r}")
    if prediction is None:
        return math.sqrt(2 * dimension / count)
    if prediction.dimension != dimension:
        raise ValueError(f"prediction must be for dimension {dimension}, got one for {prediction.dimension}")
    spread = dimension * prediction.mean_square - prediction.pull**2
    return math.sqrt(2 * prediction.pull**2 * (1 - cosine) + 2 * spread / count)


def assignment_drop(dimension: int, mean_square: float, batch: int) -> float:
    """Relative change of the mean distance under linear assignment, for images of independent directions: -e_B |x| / (D + M).

    The leading term for large D if every image got the noise of the batch that suits it best. A permutation cannot quite give
    that: the drop measured is smaller, by 2 to 8 % of it for isotropic images and batches of 64 to 1,024, and by half where images
    resemble each other and compete for the same noises, as photographs do.

    Parameters
    ----------
    dimension, mean_square
        As in `knn`.
    batch : int ≥ 1
        B, images and noises that are assigned to each other.
    """
    check_int(dimension, "dimension", 1)
    _check_mean_square(mean_square)
    check_int(batch, "batch", 1)
    squared = mean_square * dimension
    return -expected_maximum(batch) * math.sqrt(squared) / (dimension + squared)


def vanilla_kl(count: int, dimension: int) -> tuple[float, float]:
    """Mean and standard deviation of KL(Gaussian fitted to `count` draws of N(0, I) ‖ N(0, I)) in nats; exact.

    The fit is the sample mean and the unbiased covariance. This is what the paper's 48.25 for 50,000 vanilla noises is made of
    (Section 3.3.2): the true divergence is 0.

    Parameters
    ----------
    count, dimension : int
        count > dimension ≥ 1: fewer draws leave the covariance singular.

    Examples
    --------
    >>> [round(value, 3) for value in vanilla_kl(50_000, 3072)]
    [48.231, 0.031]
    """
    bias = log_determinant_bias(count, dimension)
    degrees = (count - 1 - np.arange(dimension)) / 2
    variance = float(np.sum(polygamma(1, degrees))) - 2 * dimension / (count - 1) + 2 * dimension / count**2
    return (dimension / count + bias) / 2, math.sqrt(variance) / 2


def log_determinant_bias(count: int, dimension: int) -> float:
    """ln det Σ - E ln det S for the unbiased covariance S of `count` Gaussian draws with covariance Σ; exact, whatever Σ is."""
    check_int(dimension, "dimension", 1)
    check_int(count, "count", dimension + 1)
    degrees = (count - 1 - np.arange(dimension)) / 2
    return float(dimension * math.log((count - 1) / 2) - np.sum(digamma(degrees)))


@cache
def _unit_rule() -> tuple[FloatArray, FloatArray]:
    return np.polynomial.legendre.leggauss(NODES)


def _rule(low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """Gauss–Legendre nodes and weights on [low, high]."""
    node, weight = _unit_rule()
    return low + (node + 1) / 2 * (high - low), weight / 2 * (high - low)


def _bessel_ratio(order: float, argument: FloatArray) -> FloatArray:
    """A_v = I_v / I_{v - 1} at v = order, from A_v = z / (2 v + z A_{v + 1}) downwards, started at one of Amos's bounds."""
    top = order + TERMS
    ratio = argument / (top - 0.5 + np.sqrt((top + 0.5) ** 2 + argument**2))
    for step in range(TERMS - 1, -1, -1):
        ratio = argument / (2 * (order + step) + argument * ratio)
    return np.asarray(ratio)


def _check_mean_square(value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"mean_square must be a number, got {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"mean_square must be finite and ≥ 0, got {value!r}")
