"""What each training step sees, read one step ahead in the background; a pure function of (seed, step, rank)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from immref_trainers import streams
from immref_trainers.config import Run
from immref_trainers.data.order import share, window_epochs, window_indices
from immref_trainers.data.training import Source

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """The images of one process in one step, their labels where they have some, and their times (B,) or pairs of noise levels (B, 2)."""

    x: Array
    labels: Array | None
    times: Array


def windows(
    run: Run, source: Source, times: Callable[[np.random.Generator, int, int], Array], rank: int, world: int, start: int
) -> Iterator[Window]:
    """The windows of process `rank` from step `start` on, without end.

    Epochs are laid end to end: no image is left out or repeated where the number of images is no multiple of the window.
    """
    size = run.train_batch_size * run.gradient_accumulation_steps * world

    def read(step: int) -> Window:
        index_B, epoch_B = (
            share(whole, rank, world)
            for whole in (window_indices(len(source), size, run.seed, step), window_epochs(len(source), size, step))
        )
        t_B = share(times(streams.generator(streams.TIME, run.seed, step), size, step), rank, world)
        return Window(source.images(index_B, epoch_B), source.labels(index_B, epoch_B), t_B)

    with ThreadPoolExecutor(1, thread_name_prefix="windows") as pool:
        coming = pool.submit(read, start)
        while True:
            ready, start = coming.result(), start + 1
            coming = pool.submit(read, start)
            yield ready
