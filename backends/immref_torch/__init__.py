"""The torch backend: draws and pairing on the device of the tensors, CPU or CUDA."""

from typing import Any

import numpy as np
import torch

from immref_torch.assignment import assign_batch
from immref_torch.collapsed import collapse
from immref_torch.noise import generator, normal, radial
from immref_torch.pairing import nearest_candidate

name = "torch"
library = torch

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
    """Tensors on any device."""
    return isinstance(array, torch.Tensor)


def asarray(array: np.ndarray[Any, Any], device: str | None) -> torch.Tensor:
    """A NumPy array as a tensor on `device` (the CPU where none is named)."""
    return torch.from_numpy(np.array(array, order="C")).to(device or "cpu")


def asnumpy(array: torch.Tensor) -> np.ndarray[Any, Any]:
    """The values on the host."""
    return array.detach().cpu().numpy()


def unavailable(device: str | None) -> str | None:
    """Why `device` cannot be used here, or None."""
    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"device {device!r} cannot be used ({str(error).splitlines()[0]})"
    return None
