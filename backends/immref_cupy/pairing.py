"""KNN among given candidates on CuPy: one kernel, in which nothing of the candidates' size is stored."""

import numpy as np

from immref_cupy.arrays import Array, dtype_of, empty
from immref_cupy.kernels import MOST_WARPS, WARP, launch


def nearest_candidate(x_BD: Array, noise_BKD: Array, score: str) -> tuple[Array, Array, Array]:
    """As the reference."""
    count, candidates, dimension = noise_BKD.shape
    index_B = empty((count,), "int64", x_BD)
    before_B, after_B = (empty((count,), dtype_of(x_BD), x_BD) for _ in range(2))
    threads = WARP * min(candidates, MOST_WARPS)
    numbers = (np.int64(dimension), np.int64(candidates), np.bool_(score == "l2"))
    launch("nearest_candidate", x_BD, count, threads, x_BD, noise_BKD, index_B, before_B, after_B, *numbers)
    return index_B, before_B, after_B
