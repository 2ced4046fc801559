"""Which images a step sees: every image once an epoch, whatever was asked before."""

import numpy as np
import pytest

from immref_trainers.data.order import window_indices


@pytest.mark.parametrize(("count", "size"), [(12, 4), (10, 4), (7, 7), (5, 13), (3, 1)])
def test_laid_end_to_end_the_windows_are_whole_epochs(count, size):
    """count windows hold count × size indices: `size` epochs, also where a window straddles two or holds several."""
    stream = np.concatenate([window_indices(count, size, seed=1, step=step) for step in range(count)])
    assert np.array_equal(np.sort(stream.reshape(size, count), axis=1), np.tile(np.arange(count), (size, 1)))


def test_epochs_and_seeds_are_shuffled_differently():
    first, second, other = (window_indices(500, 500, seed, step).tolist() for seed, step in ((0, 0), (0, 1), (1, 0)))
    assert len({tuple(order) for order in (first, second, other, sorted(first))}) == 4


def test_a_step_does_not_depend_on_the_steps_before_it():
    forwards = [window_indices(10, 4, 0, step).tolist() for step in range(6)]
    backwards = [window_indices(10, 4, 0, step).tolist() for step in reversed(range(6))]
    assert forwards == backwards[::-1]


def test_numpy_s_global_generator_has_no_say():
    before = window_indices(10, 4, 0, 2).tolist()
    np.random.seed(99)  # noqa: NPY002
    assert window_indices(10, 4, 0, 2).tolist() == before


@pytest.mark.parametrize("size", [64, 128])
def test_micro_batches_do_not_move_images_between_steps(size):
    """A window's order is set by its size alone: two windows of half the size hold the same images."""
    whole = window_indices(1500, size, 3, 5)
    halves = np.concatenate([window_indices(1500, size // 2, 3, 10), window_indices(1500, size // 2, 3, 11)])
    assert np.array_equal(whole, halves)
