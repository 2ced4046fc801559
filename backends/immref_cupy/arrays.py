"""Arrays that lie on a GPU: CuPy's own, and torch's, which are seen where they lie and get results that torch allocated."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cupy

Array = Any  # a CuPy array or a torch CUDA tensor


def is_tensor(array: Any) -> bool:
    """Whether `array` is torch's; nothing is imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def seen(array: Array) -> Any:
    """The array as a contiguous CuPy array: itself, or the same memory under torch; a copy only of what is not contiguous.

    Called where `placed` holds: the capsule orders no streams, because both libraries are on the same.
    """
    if is_tensor(array):
        array = cupy.from_dlpack(sys.modules["torch"].utils.dlpack.to_dlpack(array.detach()))
    return cupy.ascontiguousarray(array)


def dtype_of(array: Array) -> str:
    """'float32', 'float64', …"""
    return str(array.dtype).rpartition(".")[2]


def empty(shape: tuple[int, ...], dtype: str, like: Array) -> Array:
    """Memory of the library and on the device of `like`, to be written to."""
    if is_tensor(like):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)
    with like.device:
        return cupy.empty(shape, dtype=dtype)


@contextmanager
def placed(like: Array) -> Iterator[None]:
    """Run CuPy on the device of `like`, and for torch's tensors on torch's current stream, so that neither waits for the other."""
    if not is_tensor(like):
        with like.device:
            yield
        return
    cuda = sys.modules["torch"].cuda
    stream = cuda.current_stream(like.device)
    with cuda.device(like.device), cupy.cuda.Device(like.device.index), cupy.cuda.ExternalStream(stream.cuda_stream, like.device.index):
        yield
