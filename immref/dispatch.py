"""Which implementation runs, and why.

`backend=` wins, then the environment variable IMMREF_BACKEND (read at every call), then 'auto':
torch tensors run on the torch backend, CuPy arrays on the CuPy backend, everything else on the
reference. Backends are modules announced under the entry-point group 'immref.backends'.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import numpy as np
from array_api_compat import is_cupy_array, is_torch_array

from immref import reference
from immref._checks import Array, library_of, nearest_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

P = ParamSpec("P")
R = TypeVar("R")

VARIABLE = "IMMREF_BACKEND"
DEVICE_VARIABLE = "IMMREF_DEVICE"


class BackendError(RuntimeError):
    """The backend asked for is unknown or cannot run here; the message says why and what to do."""


class Backend(Protocol):
    """What a backend module provides. All but `normal` and `radial` are deterministic.

    It may offer ``draw_and_collapse(rng, x_BD, more)`` besides: `collapse` of what `normal` and then `radial` draw for `more`
    further candidates, in one piece; KNN is then drawn by it.

    Shape suffixes: B images, K candidates, D numbers per image.
    """

    name: str
    library: Any

    def accepts(self, array: Any) -> bool:
        """Whether `array` is one of its own."""

    def asarray(self, array: Array, device: str | None) -> Array:
        """A NumPy array as one of its own, copied to `device`."""

    def asnumpy(self, array: Array) -> Any:
        """One of its own as a NumPy array."""

    def unavailable(self, device: str | None) -> str | None:
        """Why it cannot run here on `device` (None: its default), or None if it can."""

    def generator(self, rng: Any, like: Array) -> Any:
        """What `normal` and `radial` draw from: None, an int, a Seed or a generator, made ready for `like`."""

    def normal(self, rng: Any, shape: tuple[int, ...], like: Array) -> Array:
        """Standard normal numbers in the dtype and on the device of `like`."""

    def radial(self, rng: Any, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
        """a ~ N(0, 1) and s ~ chi2(df), in float64 where there is one."""

    def nearest_candidate(self, x_BD: Array, noise_BKD: Array, score: str) -> tuple[Array, Array, Array]:
        """index_B, before_B, after_B; see `immref.pairing`."""

    def collapse(self, x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, Array, Array, Array]:
        """noise_BD, index_B, before_B, after_B; g_BD is handed over and may become the noise; see `immref.collapsed`."""

    def assign_batch(self, x_BD: Array, noise_BD: Array, cost: str, solver: str) -> tuple[Array, Array, Array, float]:
        """index_B, before_B, after_B, gap; see `immref.assignment`."""


PARTS = [*Backend.__annotations__, *(name for name in vars(Backend) if not name.startswith("_"))]


@dataclass(frozen=True)
class Choice:
    """A backend and the reason it was chosen; `str` gives the line that runs print and record."""

    backend: Backend
    why: str

    def __str__(self) -> str:
        library = self.backend.library
        return f"{self.backend.name} ({library.__name__} {library.__version__}): {self.why}"


def asked_device() -> str | None:
    """The device named by IMMREF_DEVICE; None where the choice is left to the library."""
    return os.environ.get(DEVICE_VARIABLE) or None


@cache
def installed() -> dict[str, "EntryPoint | None"]:
    """The known backends by name; the reference needs no entry point."""
    from importlib.metadata import entry_points  # here, because only the first dispatch needs it

    return {"reference": None, **{point.name: point for point in entry_points(group="immref.backends")}}


@cache
def load(name: str) -> Backend:
    """Import the backend `name`, or say why that is impossible."""
    if name not in installed():
        raise BackendError(f"unknown backend {name!r}; known: auto, {', '.join(installed())}{nearest_name(name, ['auto', *installed()])}")
    point = installed()[name]
    if point is None:
        return reference
    try:
        backend: Backend = point.load()
    except ImportError as error:
        raise BackendError(f"backend {name!r} cannot be imported ({error}); pip install 'immref[{name}]'") from error
    return backend


def choose(x: Array, backend: str | Backend | None = None) -> Choice:
    """The backend for the array `x`: `backend`, else IMMREF_BACKEND, else by the library of `x`.

    Raises
    ------
    BackendError
        Unknown name, missing library or device.
    """
    if backend is not None and not isinstance(backend, str):
        if missing := [part for part in PARTS if not hasattr(backend, part)]:
            raise TypeError(f"backend must be a name or an immref.dispatch.Backend, got {backend!r}, which lacks {', '.join(missing)}")
        return Choice(backend, "given as an object")
    asked, source = (backend, "asked for") if backend else (os.environ.get(VARIABLE) or "auto", f"{VARIABLE} is set")
    if asked == "auto":
        library = library_of(x)
        name = library if library in ("torch", "cupy") else "reference"
        source = f"auto, for {library} arrays"
    else:
        name = asked
    found = load(name)
    if reason := found.unavailable(asked_device()):
        raise BackendError(f"backend {name!r} ({source}) cannot run: {reason}")
    return Choice(found, source)


def carry_in(backend: Backend, *arrays: Array) -> tuple[Array, ...]:
    """Hand `arrays` to an accelerated backend: its own as they are, NumPy's copied to IMMREF_DEVICE; others are a TypeError."""
    for array in arrays:
        library = library_of(array)
        if not backend.accepts(array) and library != "numpy":
            where = f"{library} on {array.device}" if library == "torch" else library
            raise TypeError(f"backend {backend.name!r} takes its own arrays or NumPy's, got {where}; set {VARIABLE}=reference or convert")
    return tuple(array if backend.accepts(array) else backend.asarray(array, asked_device()) for array in arrays)


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` as plain Python inside a torch.compile'd training step; the step around it stays compiled."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-any-return]
        return function(*args, **kwargs)

    return call


@contextmanager
def plain_arithmetic(x: Array) -> Iterator[None]:
    """No gradients and no autocast while pairing torch tensors: x @ n.T would be bfloat16 inside torch.autocast.

    For NumPy no warnings: a value that is not finite is reported once, as an error that names its row.
    """
    if not is_torch_array(x):
        with np.errstate(all="ignore"), x.device if is_cupy_array(x) else nullcontext():  # CuPy computes on the current device
            yield
        return
    torch = sys.modules["torch"]
    autocast = torch.autocast(x.device.type, enabled=False) if torch.is_autocast_enabled(x.device.type) else nullcontext()
    with torch.no_grad(), autocast:
        yield
