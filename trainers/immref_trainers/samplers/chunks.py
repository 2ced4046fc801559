"""Many samples, some at a time."""

from collections.abc import Iterator

from torch import Tensor

SIZE = 500  # samples that a network sees at once


def chunks(noise: Tensor, labels: Tensor | None, size: int | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Starting noise (B, ...) and its labels (B,), or None, in pieces of `size`, by default SIZE."""
    size = size or SIZE
    for start in range(0, len(noise), size):
        rows = slice(start, start + size)
        yield noise[rows], None if labels is None else labels[rows]
