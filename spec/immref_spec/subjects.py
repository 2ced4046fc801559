"""Who can be judged: a backend, and how its arrays are made and read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from immref import BackendError, dispatch, reference
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
    """

    name: str
    backend: Backend
    asarray: Callable[[np.ndarray[Any, Any]], Array]
    asnumpy: Callable[[Array], np.ndarray[Any, Any]]
    dtypes: tuple[str, ...]

    def __repr__(self) -> str:
        library = type(self.asarray(np.zeros(1, dtype=np.float32))).__module__.partition(".")[0]
        return f"{self.name} ({library} arrays)"

    @property
    def scalar_dtype(self) -> str:
        """The dtype of the scalars a_j, s_j: float64 where the library has it."""
        return "float64" if "float64" in self.dtypes else "float32"


def of(backend: Backend) -> Subject:
    """The subject of a backend given as a module or an object; its arrays live on IMMREF_DEVICE."""
    return _subject(backend.name, backend, lambda values: backend.asarray(values, dispatch.asked_device()), backend.asnumpy)


def strict() -> Subject:
    """The reference on array-api-strict's second device, where any hidden copy to the host raises."""
    import array_api_strict as xp

    return _subject("strict", reference, lambda values: xp.asarray(values, device=xp.Device("device1")), to_host)


def known() -> tuple[str, ...]:
    """Every subject that can be asked for."""
    return ("reference", "strict", *(name for name in dispatch.installed() if name != "reference"))


def asked(option: str | None) -> tuple[str, ...]:
    """The names asked for by the option, else by IMMREF_BACKEND; none means: all that can run."""
    names = option if option is not None else os.environ.get(VARIABLE, "")
    return tuple(name for name in (part.strip() for part in names.split(",")) if name not in ("", "auto"))


def load(name: str) -> Subject:
    """The subject `name`; `BackendError` says why it cannot run here."""
    if name == "strict":
        try:
            return strict()
        except ImportError as error:
            raise BackendError(f"subject 'strict' cannot run ({error}); pip install array-api-strict") from error
    backend = dispatch.load(name)
    if reason := backend.unavailable(dispatch.asked_device()):
        raise BackendError(f"backend {name!r} cannot run: {reason}")
    return of(backend)


def _subject(name: str, backend: Backend, asarray: Callable[..., Array], asnumpy: Callable[..., Any]) -> Subject:
    def values(array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array if isinstance(array, np.generic) else asnumpy(array))  # NumPy's 0-d results are scalars

    return Subject(name, backend, asarray, values, tuple(dtype for dtype in DTYPES if _holds(asarray, dtype)))


def _holds(asarray: Callable[..., Array], dtype: str) -> bool:
    try:
        return str(asarray(np.zeros(1, dtype=dtype)).dtype).endswith(dtype)
    except (TypeError, ValueError):
        return False
