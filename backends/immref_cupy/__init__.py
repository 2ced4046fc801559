"""The CuPy backend's place: the name is known to the dispatch, the kernels are not written yet."""

from typing import Any

name = "cupy"


def accepts(array: Any) -> bool:
    """No array, as long as there are no kernels."""
    return False


def unavailable(device: str | None) -> str | None:
    """Why it cannot run."""
    return "its kernels are not written yet; for CuPy arrays set IMMREF_BACKEND=reference, for a GPU use torch"
