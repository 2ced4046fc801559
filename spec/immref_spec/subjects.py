"""Who can be judged: a backend, and how its arrays are made and read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from immref import BackendError, dispatch, reference
from immref._checks import library_of
from immref.assignment import to_host
from immref.dispatch import VARIABLE, Backend

DTYPES = ("float16", "float32", "float64")
Array = Any  # an array of the subject's library


@dataclass(frozen=True, repr=False)
class Subject:
    """One row of a run: a backend on the arrays of one library.

    Attributes
    ----------
    name : str
    backend : module or object with the functions of `immref.dispatch.Backend`
    asarray, asnumpy : NumPy array → array of the library, and back
    dtypes : the floating dtypes that the library can hold, by NumPy's names
    index_dtype : the widest signed integer that it can hold: int64, or int32 where there is none
    """

    name: str
    backend: Backend
    asarray: Callable[[np.ndarray[Any, Any]], Array]
    asnumpy: Callable[[Array], np.ndarray[Any, Any]]
    dtypes: tuple[str, ...]
    index_dtype: str

    def __repr__(self) -> str:
        return f"{self.name} ({library_of(self.asarray(np.zeros(1, dtype=np.float32)))} arrays)"

    @property
    def scalar_dtype(self) -> str:
        """The dtype of the scalars a_j, s_j: float64 where the library has it."""
        return "float64" if "float64" in self.dtypes else "float32"


def of(backend: Backend) -> Subject:
    """The subject of a backend given as a module or an object; its arrays live on IMMREF_DEVICE."""
    return _subject(backend.name, backend, lambda values: backend.asarray(values, dispatch.asked_device()), backend.asnumpy)


def strict(name: str, device: str) -> Subject:
    """The reference on a device of array-api-strict: any hidden copy to the host raises, as on an accelerator."""
    import array_api_strict as xp

    def asarray(values: np.ndarray[Any, Any]) -> Array:
        return xp.asarray(xp.asarray(values), device=xp.Device(device))

    return _subject(name, reference, asarray, to_host)


def jax() -> Subject:
    """The reference on JAX arrays, outside jit; float64 where JAX_ENABLE_X64 is set."""
    import jax.numpy as xp

    return _subject("jax", reference, xp.asarray, to_host)


def tensors() -> Subject:
    """The reference on torch tensors, as IMMREF_BACKEND=reference runs it; on IMMREF_DEVICE."""
    import torch

    return _subject("torch-reference", reference, lambda values: torch.tensor(values, device=dispatch.asked_device() or "cpu"), to_host)


def guests() -> Subject:
    """The CuPy backend on torch's CUDA tensors."""
    import torch

    backend = dispatch.load("cupy")
    if reason := backend.unavailable(dispatch.asked_device()):
        raise BackendError(f"subject 'cupy-torch' cannot run: {reason}")
    return _subject("cupy-torch", backend, lambda values: torch.tensor(values, device=dispatch.asked_device() or "cuda"), backend.asnumpy)


ARRAYS: dict[str, tuple[Callable[[], Subject], str]] = {
    "strict": (lambda: strict("strict", "device1"), "array-api-strict"),
    "strict-no-float64": (lambda: strict("strict-no-float64", "no_float64"), "array-api-strict>=2.6"),
    "jax": (jax, "jax"),
    "torch-reference": (tensors, "torch"),
    "cupy-torch": (guests, "immref[torch,cupy]"),
}  # an implementation on another library's arrays: how to make the subject, and what to install


def known() -> tuple[str, ...]:
    """Every subject that can be asked for."""
    return ("reference", *ARRAYS, *(name for name in dispatch.installed() if name != "reference"))


def asked(option: str | None) -> tuple[str, ...]:
    """The names asked for by the option, else by IMMREF_BACKEND; none means: all that can run."""
    names = option if option is not None else os.environ.get(VARIABLE, "")
    return tuple(name for name in (part.strip() for part in names.split(",")) if name not in ("", "auto"))


def load(name: str) -> Subject:
    """The subject `name`; `BackendError` says why it cannot run here."""
    if name in ARRAYS:
        make, package = ARRAYS[name]
        try:
            return make()
        except (ImportError, ValueError) as error:
            raise BackendError(f"subject {name!r} cannot run ({error}); pip install '{package}'") from error
    backend = dispatch.load(name)
    if reason := backend.unavailable(dispatch.asked_device()):
        raise BackendError(f"backend {name!r} cannot run: {reason}")
    return of(backend)


def _subject(name: str, backend: Backend, asarray: Callable[..., Array], asnumpy: Callable[..., Any]) -> Subject:
    def values(array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array if isinstance(array, np.generic) else asnumpy(array))  # NumPy's 0-d results are scalars

    floats = tuple(dtype for dtype in DTYPES if _holds(asarray, dtype))
    return Subject(name, backend, asarray, values, floats, "int64" if _holds(asarray, "int64") else "int32")


def _holds(asarray: Callable[..., Array], dtype: str) -> bool:
    try:
        return str(asarray(np.zeros(1, dtype=dtype)).dtype).endswith(dtype)
    except (TypeError, ValueError):  # a dtype that the library, or the device, does not have
        return False
