"""Tables of coefficients and steps, as NumPy arrays."""

from typing import Any

import numpy as np


def flow(t: Any) -> tuple[Any, Any]:
    """Flow matching's (a, b) of x_t = a x + b n at times t in [0, 1]; t = 0 is pure noise."""
    return t, 1 - t


def euler_times(steps: int) -> np.ndarray[Any, Any]:
    """The steps + 1 equally spaced times from noise (0) to data (1)."""
    return np.linspace(0.0, 1.0, steps + 1)
