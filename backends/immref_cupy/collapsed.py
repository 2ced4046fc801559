"""KNN at the price of one noise on CuPy; the mathematics is told in `immref.collapsed`."""

import numpy as np

from immref_cupy.arrays import Array, dtype_of, empty
from immref_cupy.kernels import launch, threads_for
from immref_cupy.noise import Stream

Results = tuple[Array, Array, Array, Array]


def collapse(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> Results:
    """As the reference, in one kernel; `g_BD` is left as it was."""
    results = _results(x_BD)
    numbers = [np.int64(x_BD.shape[1]), np.int64(a_BK.shape[1])]
    launch("collapse", x_BD, x_BD.shape[0], threads_for(x_BD.shape[1]), x_BD, g_BD, a_BK, s_BK, *results, *numbers)
    return results


def draw_and_collapse(rng: Stream, x_BD: Array, more: int) -> Results:
    """``collapse(x, normal(rng, …), *radial(rng, …))`` with `more` further candidates, in one kernel: it stores nothing but the noise."""
    results = _results(x_BD)
    numbers = [np.int64(x_BD.shape[1]), np.int64(more)]
    launch("draw_and_collapse", x_BD, x_BD.shape[0], threads_for(x_BD.shape[1]), x_BD, *results, *numbers, rng.key, rng.draw(times=2))
    return results


def _results(x_BD: Array) -> Results:
    """Memory for noise, index, and distances before and after."""
    count = (x_BD.shape[0],)
    return (
        empty(tuple(x_BD.shape), dtype_of(x_BD), x_BD),
        empty(count, "int64", x_BD),
        empty(count, "float64", x_BD),
        empty(count, "float64", x_BD),
    )
