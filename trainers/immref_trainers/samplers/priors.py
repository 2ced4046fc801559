"""The noise a sampler starts from.

`gaussian` is N(0, I), the paper's. KNN noise is not quite N(0, I), so a sampler may start from the law that training
saw: `moment` is a Gaussian with the mean and covariance of noise that the pairing really produced; `matched` pairs
fresh noise with held-out images and keeps the chosen noise. Under assignment and vanilla all three are N(0, I) in law.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

import immref
from immref import Pairing
from immref_trainers import streams
from immref_trainers.data.training import Source

FloatArray = np.ndarray[Any, Any]
Prior = Literal["gaussian", "moment", "matched"]
PRIORS: tuple[Prior, ...] = ("gaussian", "moment", "matched")

WHOLE = 4_000  # numbers per image beyond which `moment` knows the mean and one deviation alone: a covariance were dear, and mostly noise
RANK = 32  # directions whose variance `moment` keeps; the others share one
MEASURED = 20_000  # paired noises that `moment` is fitted to, fewer where they are larger than `WHOLE`


def gaussian(shape: tuple[int, ...], seed: int, draw: int = 0) -> FloatArray:
    """Fixed starting noise: the same for every pairing and evaluation of a seed."""
    return streams.generator(streams.SAMPLING, seed, draw).standard_normal(shape, dtype=np.float32)


def paired_noise(
    source: Source, pairing: Pairing, window: int, count: int, seed: int, place: Callable[[FloatArray], Any], draw: int = 0
) -> tuple[FloatArray, FloatArray | None]:
    """`count` noises chosen for random windows of images, as training chooses them, and the labels of those images.

    `place` moves a window to the device; another `draw` gives other noises for other images.
    """
    chosen, labels = [], []  # the latter empty where images have none
    for step in range(-(-count // window)):
        rows = streams.generator(streams.PRIOR, seed, step, draw).integers(len(source), size=window)
        word = int(streams.generator(streams.PRIOR, seed, step, draw, micro=1).integers(2**63))
        labels_B = source.labels(rows)
        noise = immref.pair(place(source.images(rows)), pairing, group=labels_B, rng=immref.Seed(word)).noise
        chosen.append(np.asarray(noise.cpu() if hasattr(noise, "cpu") else noise))
        labels += [] if labels_B is None else [labels_B]
    return np.concatenate(chosen)[:count], np.concatenate(labels)[:count] if labels else None


def measured(shape: tuple[int, ...]) -> int:
    """How many noises of this shape the moment prior is fitted to."""
    return int(min(MEASURED, max(1_000, MEASURED * WHOLE // math.prod(shape))))


def fit_moment(noise: FloatArray) -> dict[str, FloatArray]:
    """Mean, leading directions and variances of noise (N, ...): all that the `moment` prior has to remember.

    Beyond `WHOLE` numbers per image there are no directions, and one deviation.
    """
    flat_ND = noise.reshape(len(noise), -1).astype(np.float64)
    mean_D = flat_ND.mean(axis=0)
    if len(mean_D) > WHOLE:
        directions_RD, std_R = np.zeros((0, len(mean_D))), np.zeros(0)
        isotropic = np.square(flat_ND - mean_D).mean() * len(flat_ND) / (len(flat_ND) - 1)
    else:
        values, vectors = np.linalg.eigh(np.cov(flat_ND, rowvar=False))
        values = values.clip(min=0)  # rounding, where there are fewer noises than numbers
        order = np.argsort(-np.abs(values - np.median(values)))  # the directions that pairing changed most
        kept, rest = order[:RANK], order[RANK:]
        directions_RD, std_R = vectors[:, kept].T, np.sqrt(values[kept])
        isotropic = values[rest].mean() if len(rest) else 1.0
    return {
        "mean": mean_D.astype(np.float32),
        "directions": directions_RD.astype(np.float32),
        "std": std_R.astype(np.float32),
        "rest_std": np.sqrt(np.asarray([isotropic])).astype(np.float32),
    }


def moment(fitted: dict[str, FloatArray], noise: FloatArray) -> FloatArray:
    """Turn standard normal `noise` (M, ...) into the fitted Gaussian."""
    flat_MD = noise.reshape(len(noise), -1)
    along_MR = flat_MD @ fitted["directions"].T
    across_MD = flat_MD - along_MR @ fitted["directions"]
    shaped_MD = fitted["mean"] + fitted["rest_std"] * across_MD + (along_MR * fitted["std"]) @ fitted["directions"]
    return np.asarray(shaped_MD.reshape(noise.shape), dtype=np.float32)
