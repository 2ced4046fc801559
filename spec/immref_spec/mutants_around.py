"""What can be wrong around the primitives: a function of `immref` replaced, on arrays that show it. Each names its law.

AROUND, at the end, is the table: mutant, the function replaced, the arrays that show it, the law that must reject it.
"""
# ruff: noqa: ARG001  (a mutant keeps the signature of the function that it replaces)

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from array_api_compat import array_namespace, device

from immref import collapsed, grouping

Array = Any


@dataclass(frozen=True)
class Around:
    """A function of `immref` with a wrong twin, the subject whose arrays show it, and the law that must reject it."""

    place: str
    wrong: Callable[..., Any]
    subject: str
    law: str

    @property
    def story(self) -> str:
        """What is wrong, in one sentence."""
        return str(self.wrong.__doc__)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The wrong twin in place, within this context."""
        with patch(self.place, self.wrong):
            yield


def labels_ignored(chosen: Any, x_BD: Array, noise_BD: Array, cost: str, solver: str, labels_B: Array) -> tuple[Array, ...]:
    """Assigns across labels though they were given."""
    return chosen.assign_batch(x_BD, noise_BD, cost, solver)  # type: ignore[no-any-return]


def labels_permuted(chosen: Any, x_BD: Array, noise_BD: Array, cost: str, solver: str, labels_B: Array) -> tuple[Array, ...]:
    """Goes by the labels of other images."""
    return grouping.assign_within(chosen, x_BD, noise_BD, cost, solver, labels_B[::-1])


def whole_candidate_taken(x_BD: Array, g_BD: Array, a_BK: Array) -> tuple[Array, ...]:
    """Adds the chosen part along x to a noise that still has its own."""
    noise_BD, *rest = collapsed.collapse_dot(x_BD, g_BD, a_BK)
    xp = array_namespace(x_BD)
    length_B = xp.sqrt(xp.vecdot(x_BD, x_BD))
    safe_B = xp.where(length_B == 0, 1, length_B)
    return noise_BD + x_BD * (xp.vecdot(x_BD, g_BD) / safe_B**2)[:, None], *rest


def least_dot_product(x_BD: Array, g_BD: Array, a_BK: Array) -> tuple[Array, ...]:
    """Takes the candidate that points away from the image."""
    noise_BD, *rest = collapsed.collapse_dot(-x_BD, g_BD, a_BK)
    return noise_BD, *rest


def values_unchecked(*distances_x_noise_name: Any, wait: bool = False) -> None:
    """Lets NaN and infinity through on the CPU."""


def half_left_narrow(array: Array, batch_axes: int) -> Array:
    """Computes half precision in half precision."""
    return array_namespace(array).reshape(array, (*array.shape[:batch_axes], -1))


def scaled_twice(x: Array, factor: float) -> Array:
    """Scales the images twice before pairing."""
    return x * factor * factor


def copied_at_one(x: Array, factor: float) -> Array:
    """Copies the images for a factor of 1."""
    return x * factor


def drawn_wide(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Draws the reference's noise in float64 and rounds it."""
    return array_namespace(like).asarray(rng.standard_normal(shape), dtype=like.dtype, device=device(like))


def on_the_host(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Leaves the noise on the host instead of moving it to the device of x."""
    return array_namespace(like).asarray(rng.standard_normal(shape), dtype=like.dtype)


@contextmanager
def autocast_on(x: Array) -> Iterator[None]:
    """Leaves autocast on while pairing."""
    import torch

    with torch.no_grad():
        yield


@contextmanager
def gradients_on(x: Array) -> Iterator[None]:
    """Records gradients through the noise."""
    import torch

    with torch.autocast(x.device.type, enabled=False):
        yield


AROUND: dict[str, Around] = {
    "labels_ignored": Around("immref.api.assign_within", labels_ignored, "reference", "laws_assignment.test_labels_keep_their_noises"),
    "labels_permuted": Around("immref.api.assign_within", labels_permuted, "reference", "laws_assignment.test_labels_keep_their_noises"),
    "whole_candidate_taken": Around(
        "immref.api.collapse_dot", whole_candidate_taken, "reference", "laws_knn.test_the_law_of_the_largest_dot_product"
    ),
    "least_dot_product": Around(
        "immref.api.collapse_dot", least_dot_product, "reference", "laws_knn.test_the_law_of_the_largest_dot_product"
    ),
    "values_unchecked": Around(
        "immref._checks.check_finite", values_unchecked, "reference", "laws_contract.test_values_that_are_not_finite_are_loud"
    ),
    "half_left_narrow": Around("immref.api._flat", half_left_narrow, "reference", "laws_nearest.test_knn_returns_the_winner"),
    "bfloat16_left_narrow": Around("immref.api._flat", half_left_narrow, "torch", "laws_torch.test_bfloat16_is_float32_rounded"),
    "scaled_twice": Around("immref.api.scale", scaled_twice, "reference", "laws_pair.test_pair_is_its_method"),
    "copied_at_one": Around("immref.scale", copied_at_one, "reference", "laws_pair.test_scale_multiplies"),
    "drawn_wide": Around(
        "immref.reference.normal", drawn_wide, "reference", "laws_draws.test_the_reference_draws_the_same_on_every_library"
    ),
    "on_the_host": Around("immref.reference.normal", on_the_host, "strict", "laws_contract.test_noise_is_like_the_image"),
    "autocast_on": Around("immref.dispatch.plain_arithmetic", autocast_on, "torch", "laws_torch.test_autocast_changes_nothing"),
    "gradients_on": Around("immref.dispatch.plain_arithmetic", gradients_on, "torch", "laws_torch.test_noise_carries_no_gradient"),
}
