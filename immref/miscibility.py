"""Measures of what pairing did, and of how far two sets of features are apart (in float64, on the host).

Arrays of any library are carried over. What theory predicts for each measure is in `immref.theory`.

Shape suffixes: I images, N noises or feature vectors, B rows of a batch, D numbers each.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh, eigvalsh

from immref import theory
from immref._checks import Array, check_int
from immref.assignment import to_host

FloatArray = np.ndarray[Any, Any]


def distance_drop(before: Any, after: Any) -> float:
    """Relative change of the mean image-noise distance (the paper's 'L2 Dist. Δ', Table 4); -0.016 is 1.6 % nearer."""
    return float(after) / float(before) - 1.0


def mean_square(noise: Any) -> float:
    """E n² per coordinate of an array of any library: 1 for standard normal noise, less where pairing prefers short noise."""
    return float(np.mean(np.square(to_host(noise), dtype=np.float64)))


def cluster_distance(noise_IND: Array) -> float:
    """Mean L2 distance between the mean noises of two images, over all pairs of images (Section 3.2).

    About sqrt(2D/N) for vanilla, whatever the images are: the sampling error of the means. Print N beside it.

    Parameters
    ----------
    noise_IND : real array (I ≥ 2, N, ...), finite
        N noises for each of I images.

    Examples
    --------
    >>> import numpy as np
    >>> cluster_distance(np.asarray([[[0.0, 1.0], [0.0, -1.0]], [[3.0, 4.0], [3.0, 4.0]]]))
    5.0
    """
    noise_IND = to_host(noise_IND)
    if noise_IND.ndim < 3 or noise_IND.shape[0] < 2 or 0 in noise_IND.shape:
        raise ValueError(f"noise must have shape (I ≥ 2, N, ...), no axis empty, got {noise_IND.shape}")
    mean_ID = noise_IND.mean(axis=1, dtype=np.float64).reshape(noise_IND.shape[0], -1)
    _check_finite(mean_ID, "noise")
    return float(pair_distances(mean_ID).mean())


def pair_distances(mean_ID: FloatArray) -> FloatArray:
    """L2 distances of all pairs of rows."""
    first, second = np.triu_indices(len(mean_ID), 1)
    return np.array([math.dist(mean_ID[i], mean_ID[j]) for i, j in zip(first, second, strict=True)])


class Moments:
    """Count, mean and covariance of vectors that come in batches; two of them merge, so that processes can share the work.

    Parameters
    ----------
    dimension : int ≥ 1
        D. Takes 8 D² bytes, and as many again while a batch is added.
    """

    def __init__(self, dimension: int) -> None:
        dimension = check_int(dimension, "dimension", 1)
        self.count = 0
        self.mean_D: FloatArray = np.zeros(dimension)
        self.scatter_DD: FloatArray = np.zeros((dimension, dimension))  # sum of (n - mean)(n - mean)ᵀ

    def add(self, rows_ND: Array) -> None:
        """Take in N ≥ 1 finite vectors (N, ...) of D numbers."""
        rows = to_host(rows_ND)
        if rows.ndim < 2 or not len(rows) or math.prod(rows.shape[1:]) != len(self.mean_D):
            raise ValueError(f"rows must have shape (N ≥ 1, ...) with {len(self.mean_D)} numbers a row, got {rows.shape}")
        rows_ND = rows.reshape(len(rows), -1).astype(np.float64)
        mean_D = rows_ND.mean(axis=0)
        _check_finite(mean_D, "rows")
        rows_ND -= mean_D
        self._combine(len(rows_ND), mean_D, rows_ND.T @ rows_ND)

    def merge(self, other: "Moments") -> None:
        """Take in what `other` has seen."""
        if len(other.mean_D) != len(self.mean_D):
            raise ValueError(f"moments of {len(other.mean_D)} numbers do not merge with those of {len(self.mean_D)}")
        self._combine(other.count, other.mean_D, other.scatter_DD)

    @property
    def covariance_DD(self) -> FloatArray:
        """The unbiased covariance, of two vectors or more."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 vectors or more, got {self.count}")
        return self.scatter_DD / (self.count - 1)

    def _combine(self, count: int, mean_D: FloatArray, scatter_DD: FloatArray) -> None:
        if count == 0:
            return
        total, step_D = self.count + count, mean_D - self.mean_D
        self.scatter_DD += scatter_DD
        self.scatter_DD += np.outer(step_D * (self.count * count / total), step_D)
        self.mean_D = self.mean_D + step_D * (count / total)
        self.count = total


@dataclass(frozen=True)
class Divergence:
    """KL(Gaussian fitted to `count` vectors ‖ N(0, I)) in nats.

    Attributes
    ----------
    plug_in : of the sample mean and the unbiased covariance; the paper's number (Section 3.3.2)
    corrected : less its bias, exactly if the vectors are Gaussian; near 0 for vanilla, on either side of it
    count : how many vectors
    """

    plug_in: float
    corrected: float
    count: int


def gaussian_divergence(moments: Moments) -> Divergence:
    """How far the noise is from N(0, I), seen through its mean and covariance (Section 3.3.2).

    The plug-in value of finitely many vectors is large for vanilla too (`theory.vanilla_kl`).

    Parameters
    ----------
    moments : Moments
        Of more vectors than dimensions, which span the space.
    """
    dimension, count = len(moments.mean_D), moments.count
    if count <= dimension:
        raise ValueError(f"the divergence needs more vectors than their {dimension} dimensions, got {count}")
    covariance_DD = moments.covariance_DD
    trace = float(np.trace(covariance_DD))
    sign, log_determinant = np.linalg.slogdet(covariance_DD)
    if sign <= 0:
        raise ValueError(f"the {count} vectors must span their {dimension} dimensions: their covariance is singular")
    plug_in = (trace + float(moments.mean_D @ moments.mean_D) - dimension - float(log_determinant)) / 2
    return Divergence(plug_in, plug_in - (trace / count + theory.log_determinant_bias(count, dimension)) / 2, count)


@dataclass(frozen=True)
class Skew:
    """How well the noise alone tells the label.

    Attributes
    ----------
    accuracy : share of unseen rows whose label was told, each label weighing the same
    chance : 1 over the number of labels
    standard_error : of the accuracy, as if told at chance
    """

    accuracy: float
    chance: float
    standard_error: float

    @property
    def present(self) -> bool:
        """Whether the accuracy lies more than four standard errors above chance."""
        return self.accuracy > self.chance + 4 * self.standard_error

    @property
    def large(self) -> bool:
        """Whether it is present and labels are told half as often again as by chance."""
        return self.present and self.accuracy > 1.5 * self.chance


def class_skew(noise_BD: Array, label_B: Array) -> Skew:
    """How well a linear classifier tells the label from the noise alone: at chance for noise that does not depend on the label.

    Where it does not stay at chance, p(noise | label) is not N(0, I), and sampling a label from N(0, I) starts from noise
    that training did not see. Half of each label's rows, every other one, give the label's mean noise; the other half goes to
    the label whose mean fits best under unit covariance. Within its standard error it cannot see a dependence, nor one that
    leaves the mean noise of each label alone, such as a label told by the length of its noise or by several clusters.

    Parameters
    ----------
    noise_BD : real array (B, ...), finite
    label_B : array (B,) of integers or strings
        At least two labels, each on four rows or more; rows of other labels have to be left out beforehand.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.arange(4000) % 2
    >>> noise = np.random.default_rng(0).standard_normal((4000, 64))
    >>> class_skew(noise, label).present, class_skew(noise + label[:, None], label).present
    (False, True)
    """
    noise_BD, label_B = to_host(noise_BD), to_host(label_B)
    if noise_BD.ndim < 2 or label_B.shape != noise_BD.shape[:1]:
        raise ValueError(f"noise and label must have shapes (B, ...) and (B,), got {noise_BD.shape} and {label_B.shape}")
    names, label_B, count_C = np.unique(label_B, return_inverse=True, return_counts=True)
    if len(names) < 2 or count_C.min() < 4:
        raise ValueError(f"label must hold two labels or more, each on four rows or more, got {len(names)}, the rarest on {count_C.min()}")
    noise_BD = noise_BD.reshape(len(label_B), -1).astype(np.float64)
    _check_finite(noise_BD, "noise")
    seen_B = _place_in_label(label_B, count_C) % 2 == 0
    seen_C, unseen_C = (np.bincount(label_B[rows_B], minlength=len(names)) for rows_B in (seen_B, ~seen_B))
    one_hot_CB = (label_B[seen_B] == np.arange(len(names))[:, None]).astype(np.float64)
    mean_CD = one_hot_CB @ noise_BD[seen_B] / seen_C[:, None]
    score_BC = noise_BD[~seen_B] @ mean_CD.T - np.einsum("cd,cd->c", mean_CD, mean_CD) / 2
    hit_B = score_BC.argmax(axis=1) == label_B[~seen_B]
    recall_C = np.bincount(label_B[~seen_B], hit_B, minlength=len(names)) / unseen_C
    chance = 1 / len(names)
    error = math.sqrt(chance * (1 - chance) * float(np.sum(1 / unseen_C))) / len(names)
    return Skew(float(recall_C.mean()), chance, error)


def _place_in_label(label_B: FloatArray, count_C: FloatArray) -> FloatArray:
    """0, 1, 2, … within each label, in the order of the rows."""
    place_B = np.empty(len(label_B), dtype=np.int64)
    place_B[np.argsort(label_B, kind="stable")] = np.arange(len(label_B)) - np.repeat(np.cumsum(count_C) - count_C, count_C)
    return place_B


def _check_finite(values: FloatArray, name: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _moments(features_ND: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and (unbiased) covariance of N feature vectors, N ≥ 2."""
    features_ND = np.asarray(to_host(features_ND), dtype=np.float64)
    if features_ND.ndim != 2 or features_ND.shape[0] < 2:
        raise ValueError(f"features must have shape (N ≥ 2, D), got {features_ND.shape}")
    _check_finite(features_ND, "features")
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
