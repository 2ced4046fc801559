"""Which images a step sees, as a pure function of (seed, step)."""

from typing import Any

import numpy as np

from immref_trainers import streams


def window_indices(count: int, size: int, seed: int, step: int) -> np.ndarray[Any, Any]:
    """Indices of the `size` images of training step `step` (from 0): epochs in shuffled order, laid end to end."""
    first = step * size
    epochs = range(first // count, (first + size - 1) // count + 1)
    order = np.concatenate([streams.generator(streams.ORDER, seed, epoch).permutation(count) for epoch in epochs])
    offset = first - epochs[0] * count
    return order[offset : offset + size]
