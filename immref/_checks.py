"""Shape, dtype and value contracts, and the sentences they answer with."""

import math
import numbers
import operator
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_jax_array, is_torch_array

Array = Any  # any array of an array-API library: NumPy, array-api-strict, JAX, torch, CuPy

FLOATS = ("float16", "bfloat16", "float32", "float64")
MOST_CANDIDATES = 2**31  # of one image


def describe(array: Array) -> str:
    """'numpy float32 (4, 3)': how an array is named in an error sentence."""
    return f"{library_of(array)} {array.dtype} {tuple(array.shape)}"


def library_of(array: Any) -> str:
    """'numpy', 'torch', 'jax', …: the root of the array's module; a subclass of Tensor is torch's."""
    if is_torch_array(array):
        return "torch"
    return "jax" if is_jax_array(array) else type(array).__module__.partition(".")[0]


def widest(array: Array, kind: str) -> Any:
    """The widest dtype of a kind, 'real floating' or 'signed integer', on the array's device: float64 or int64 where it has them."""
    known = array_namespace(array).__array_namespace_info__().dtypes(kind=kind, device=device(array))
    return max(known.values(), key=lambda dtype: int(re.sub(r"\D", "", str(dtype))))


def check_images(x: Array, name: str = "x") -> Any:
    """Return the array namespace of `x`, a real floating array (B, ...) with at least one number per row."""
    if not is_array_api_obj(x):
        raise TypeError(f"{name} must be an array of NumPy, torch, CuPy, JAX or another array-API library, got {type(x).__name__}")
    if is_jax_array(x) and "Tracer" in type(x).__name__:
        raise TypeError(f"{name} is a JAX tracer: noise is drawn on the host, so call immref outside jit and hand the noise in")
    check_plain(x, name)
    if str(x.dtype).rpartition(".")[2] not in FLOATS:  # by name: no other byte order, no float8, no long double
        raise TypeError(f"{name} must be a real floating array ({', '.join(FLOATS)}), got {describe(x)}; convert it first")
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, ...): a batch axis and at least one more, got {describe(x)}")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got {describe(x)}")
    return array_namespace(x)


def check_plain(array: Array, name: str) -> None:
    """Refuse arrays that hide some of their values: masked, sparse, or without data."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, got {type(array).__name__}; fill it first")
    if is_torch_array(array) and str(array.layout) != "torch.strided":
        raise TypeError(f"{name} must be a dense tensor, got {array.layout}; call to_dense() first")
    if is_torch_array(array) and array.is_meta:
        raise ValueError(f"{name} must hold data, got {describe(array)} on the device meta")


def check_same(x: Array, noise: Array, shape: tuple[int, ...], name: str) -> None:
    """Require `noise` to match `x` in library, dtype and device and to have `shape`."""
    check_images(noise, name)
    if library_of(x) != library_of(noise):
        raise TypeError(f"{name} must come from the library of x ({describe(x)}), got {describe(noise)}")
    if tuple(noise.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)} to go with x, got {describe(noise)}")
    if noise.dtype != x.dtype:
        raise TypeError(f"{name} must have the dtype of x ({x.dtype}), got {describe(noise)}")
    if device(x) != device(noise):
        raise ValueError(f"{name} must be on the device of x ({device(x)}), got {device(noise)}")


def check_int(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return `value` as an int in [low, high); bool, str and float are refused, NumPy integers are welcome."""
    number = whole(value)
    if number is None or number < low or (high is not None and number >= high):
        most = f" and < {high}" if high is not None and number is not None and number >= high else ""
        raise (TypeError if number is None else ValueError)(f"{name} must be an integer ≥ {low}{most}, got {value!r}")
    return number


def whole(value: Any) -> int | None:
    """`value` as an int where it is a whole number of Python, NumPy or an array library (0-d), but no bool; else None."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")) or getattr(value, "ndim", 0) != 0:
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def check_scale(value: Any) -> float:
    """Return the image-scaling factor as a positive, finite float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"scale must be a number, got {value!r}")
    try:
        factor = float(value)
    except OverflowError:
        factor = math.inf
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"scale must be finite and > 0, got {value!r}")
    return factor


def check_choice(value: Any, name: str, known: tuple[str, ...]) -> None:
    """Require `value` to be one of `known`; the sentence lists them and the nearest."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{nearest_name(value, known)}")


def nearest_name(value: Any, known: Any) -> str:
    """'; did you mean ...?' for a near miss, else nothing."""
    import difflib

    close = difflib.get_close_matches(str(value).lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def on_cpu(array: Array) -> bool:
    """Whether the array's values can be looked at without waiting for an accelerator."""
    return "cpu" in str(device(array)).lower()


def check_finite(distances_B: Array, x: Array, noise: Array, name: str, *, wait: bool = False) -> None:
    """Raise where a row's distance is not finite; an accelerator is not waited for unless asked, its row is NaN."""
    if not (wait or on_cpu(distances_B)):
        return
    xp = array_namespace(distances_B)
    if bool(xp.all(xp.isfinite(distances_B))):
        return
    for array, called in ((x, "x"), (noise, name)):
        bad_B = ~xp.all(xp.isfinite(xp.reshape(array, (array.shape[0], -1))), axis=1)
        if bool(xp.any(bad_B)):
            row = int(xp.argmax(xp.astype(bad_B, xp.uint8)))
            raise ValueError(f"{called} must be finite, got NaN or infinity in row {row} of {describe(array)}")
    raise overflow(x, noise, name)


@contextmanager
def room_for_gains(x_BD: Array) -> Iterator[None]:
    """Say what needed the memory, where a library has none left for the matrices of an assignment."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):  # torch's is a RuntimeError
            raise
        count = x_BD.shape[0]
        size = count**2 * (8 if str(x_BD.dtype).endswith("64") else 4) / 2**20
        raise MemoryError(
            f"linear assignment of {count:,} images needs several matrices of {size:,.0f} MiB on {device(x_BD)}, more than is free; "
            f"assign smaller batches"
        ) from error


def overflow(x: Array, noise: Array, name: str) -> ValueError:
    """The error for finite numbers whose squares are not; it names the array that holds the larger ones."""
    xp = array_namespace(x)
    array, called = (noise, name) if bool(xp.max(xp.abs(noise)) > xp.max(xp.abs(x))) else (x, "x")
    return ValueError(f"{called} is finite but a squared distance overflows in {describe(array)}; scale it down or pass float64")
