"""Draws on the device: a Philox stream keyed by one word, which need not be known on the host."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np

from immref.noise import word_on_host
from immref_cupy.arrays import Array, dtype_of, empty, is_tensor, placed, seen
from immref_cupy.kernels import launch, threads_for


@dataclass
class Stream:
    """A place in a stream of noise.

    Attributes
    ----------
    key : uint64 array (1,) on the device
    drawn : how many draws were made from it
    """

    key: Any
    drawn: int = 0

    def draw(self, times: int = 1) -> np.uint32:
        """The number of the next draw; moves on by `times`."""
        self.drawn += times
        return np.uint32(self.drawn - times)


def generator(rng: Any, like: Array) -> Stream:
    """The stream that `rng` stands for: None (the default generator of the library of `like`), an int, a Seed, or a generator.

    A generator of CuPy or torch gives one word, which stays on the device.
    """
    with placed(like):
        return Stream(_key(rng, like))


def _key(rng: Any, like: Array) -> Any:
    torch = sys.modules.get("torch")
    if (word := word_on_host(rng)) is not None:
        return cupy.asarray(np.asarray([word], dtype=np.uint64))
    if torch is not None and isinstance(rng, torch.Generator):
        if not is_tensor(like) or rng.device.type != like.device.type:
            where = like.device if is_tensor(like) else "cuda, for torch's tensors"
            raise ValueError(f"rng must be a generator on the device of x ({where}), got torch's on {rng.device}")
        return _word_of_torch(rng, like)
    if isinstance(rng, cupy.random.Generator):
        return rng.integers(0, 2**63 - 1, size=1, dtype=np.int64).view(np.uint64)
    if rng is None:
        return _word_of_torch(None, like) if is_tensor(like) else cupy.random.get_random_state().tomaxint(1).view(np.uint64)
    raise TypeError(
        f"rng must be None, an int, an immref.Seed, or a generator of CuPy, torch or NumPy, got {type(rng).__module__}.{type(rng).__name__}"
    )


def _word_of_torch(rng: Any, like: Array) -> Any:
    torch = sys.modules["torch"]
    return seen(torch.randint(2**63 - 1, (1,), generator=rng, device=like.device)).view(np.uint64)


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many rows of how many numbers a draw has: a row for each image, a single one where the shape has one axis."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])


def normal(rng: Stream, shape: tuple[int, ...], like: Array) -> Array:
    """Standard normal numbers in the dtype and on the device of `like`."""
    drawn = empty(shape, dtype_of(like), like)
    rows, columns = rows_of(shape)
    launch("normal", like, rows, threads_for(columns), drawn, np.int64(columns), rng.key, rng.draw())
    return drawn


def radial(rng: Stream, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """a ~ N(0, 1) and s ~ chi2(df), in float64; exact, and nothing waits for the device."""
    along, across = empty(shape, "float64", like), empty(shape, "float64", like)
    rows, columns = rows_of(shape)
    launch("radial", like, rows, threads_for(columns), along, across, np.int64(columns), rng.key, rng.draw(), np.float64(df))
    return along, across
