"""Which images a step sees, as a pure function of (seed, step)."""

from functools import lru_cache
from typing import Any

import numpy as np

from immref_trainers import streams

Array = np.ndarray[Any, Any]


def window_indices(count: int, size: int, seed: int, step: int) -> Array:
    """Indices of the `size` images of training step `step` (from 0): epochs in shuffled order, laid end to end."""
    first, last = step * size, (step + 1) * size
    pieces = []
    for epoch in range(first // count, (last - 1) // count + 1):
        begins = epoch * count
        pieces.append(_shuffled(count, seed, epoch)[max(first - begins, 0) : last - begins])
    return np.concatenate(pieces)


def window_epochs(count: int, size: int, step: int) -> Array:
    """The epoch of each of the `size` images of a step, as `window_indices` has them."""
    return (step * size + np.arange(size)) // count


def share(window: Array, rank: int, world: int) -> Array:
    """The part of a window that one of `world` processes takes: neighbours, as many for each."""
    if len(window) % world or not 0 <= rank < world:
        raise ValueError(f"a window of {len(window)} must be divisible by world={world}, and rank={rank} be in [0, {world})")
    return np.split(window, world)[rank]


@lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> Array:
    """The order of one epoch; kept, as the next step needs it again."""
    order = streams.generator(streams.ORDER, seed, epoch).permutation(count)
    order.setflags(write=False)
    return order
