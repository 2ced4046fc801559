"""The reference as a backend: NumPy, array-api-strict, JAX, torch or CuPy arrays alike."""

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from immref._checks import Array
from immref.assignment import assign_batch, to_host
from immref.collapsed import collapse
from immref.noise import generator, normal, radial
from immref.pairing import nearest_candidate

name = "reference"
library = np

__all__ = [
    "accepts",
    "asarray",
    "asnumpy",
    "assign_batch",
    "collapse",
    "generator",
    "library",
    "name",
    "nearest_candidate",
    "normal",
    "radial",
    "unavailable",
]


def accepts(array: Any) -> bool:
    """Every array-API library's arrays are the reference's own."""
    return is_array_api_obj(array)


def asarray(array: Array, device: str | None) -> Array:
    """Nothing has to be carried in: the reference works where the array lives."""
    return array


def asnumpy(array: Array) -> np.ndarray[Any, Any]:
    """The values on the host."""
    return to_host(array)


def unavailable(device: str | None) -> str | None:
    """The reference runs everywhere."""
    return None
