"""Flow matching: predict the velocity x - n at x_t = t x + (1 - t) n, t uniform on [0, 1]."""

import numpy as np

from immref import schedules
from immref_trainers.objectives.regression import Array, Regression

TIME_UNITS = 1000.0  # diffusers' time embedding expects t in [0, 1000]


def times(generator: np.random.Generator, count: int) -> Array:
    """Times (B,) uniform on [0, 1)."""
    return generator.random(count, dtype=np.float32)


FLOW = Regression("velocity", times, schedules.flow, TIME_UNITS)
