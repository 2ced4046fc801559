"""The images that pairing is measured on: patches of photographs, some of them repeated, and independent normal numbers.

Shape suffixes: B images, D numbers per image.
"""

from math import isqrt
from typing import Any

import numpy as np

from immref_trainers.bench.settings import EQUAL, NORMAL, REPEATED
from immref_trainers.data import photos

FloatArray = np.ndarray[Any, Any]

STD = 0.5  # of a pixel, as the paper states it


def images(data: str, batch: int, dimension: int) -> FloatArray:
    """`batch` images of one kind, float32 (B, D), pixel standard deviation .5; the same at every call.

    Parameters
    ----------
    data : 'normal', 'photos', 'photos ×4' (each image four times) or 'one photo' (all images equal)
    batch : int ≥ 1
    dimension : int ≥ 1
        For photographs 3 · side².
    """
    rng = np.random.default_rng(0)
    if data == NORMAL:
        return STD * rng.standard_normal((batch, dimension), dtype=np.float32)
    different = {REPEATED: -(-batch // 4), EQUAL: 1}.get(data, batch)
    patches = photos.normalised(rng, different, STD**2, isqrt(dimension // 3))
    return patches.reshape(different, -1)[np.arange(batch) % different]
