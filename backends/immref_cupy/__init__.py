"""The CuPy backend: kernels on NVIDIA's GPUs, for CuPy's arrays and for torch's CUDA tensors."""

from typing import Any

import cupy
import numpy as np

from immref_cupy.arrays import is_tensor
from immref_cupy.assignment import assign_batch
from immref_cupy.collapsed import collapse, draw_and_collapse
from immref_cupy.machine import number_of, unavailable
from immref_cupy.noise import generator, normal, radial
from immref_cupy.pairing import nearest_candidate

name = "cupy"
library = cupy

__all__ = [
    "accepts",
    "asarray",
    "asnumpy",
    "assign_batch",
    "collapse",
    "draw_and_collapse",
    "generator",
    "library",
    "name",
    "nearest_candidate",
    "normal",
    "radial",
    "unavailable",
]


def accepts(array: Any) -> bool:
    """CuPy's arrays, and torch's tensors on a GPU."""
    return bool(array.device.type == "cuda") if is_tensor(array) else isinstance(array, cupy.ndarray)


def asarray(array: np.ndarray[Any, Any], device: str | None) -> Any:
    """A NumPy array on the GPU `device` ('cuda' or 'cuda:1'; the current one where none is named)."""
    with cupy.cuda.Device(number_of(device)):
        return cupy.array(array, order="C")


def asnumpy(array: Any) -> np.ndarray[Any, Any]:
    """The values on the host."""
    return np.asarray(array.detach().cpu() if is_tensor(array) else cupy.asnumpy(array))
