"""Shape, dtype and value contracts, and the sentences they answer with."""

import math
import numbers
import re
from typing import Any

from array_api_compat import array_namespace, device, is_array_api_obj, is_jax_array, is_torch_array

Array = Any  # any array of an array-API library: NumPy, array-api-strict, JAX, torch, CuPy


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
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(f"{name} must be a real floating array, got {describe(x)}; convert it first")
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, ...): a batch axis and at least one more, got {describe(x)}")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got {describe(x)}")
    return xp


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
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or int(value) < low or (high is not None and int(value) >= high):
        raise (ValueError if whole else TypeError)(
            f"{name} must be an integer ≥ {low}{'' if high is None else f' and < {high}'}, got {value!r}"
        )
    return int(value)


def check_scale(value: Any) -> float:
    """Return the image-scaling factor as a positive, finite float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"scale must be a number, got {value!r}")
    factor = float(value)
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

    close = difflib.get_close_matches(str(value), list(known), n=1)
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
    raise ValueError(f"x is finite but a squared distance overflows in {describe(x)}; scale x down or pass float64")
