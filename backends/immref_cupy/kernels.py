"""The .cu files, compiled once for each dtype and device, and how their kernels are started."""

from functools import cache
from importlib.resources import files
from typing import Any

import cupy
import numpy as np

from immref_cupy.arrays import Array, dtype_of, placed, seen

FILES = ("rows.cu", "random.cu", "collapsed.cu", "pairing.cu", "auction.cu")
REALS = {"float32": "float", "float64": "double"}
WARP, NUMBERS_A_THREAD, MOST_WARPS, MOST_THREADS = 32, 8, 32, 512


def source() -> str:
    """All kernels as one text; the compiler's messages name file and line."""
    package = files(__package__)
    return "".join(f'#line 1 "{name}"\n{package.joinpath(name).read_text(encoding="utf-8")}' for name in FILES)


def options(real: str) -> tuple[str, ...]:
    """What the compiler is told: the C++ type of images and noise."""
    return ("--std=c++17", f"-DREAL={REALS[real]}")


@cache
def module(real: str) -> Any:
    """The kernels for images of a dtype."""
    return cupy.RawModule(code=source(), options=options(real))


def threads_for(numbers: int) -> int:
    """The size of a block that works on a row: a power of two; a function of the row's length alone, as the noise depends on it."""
    return max(WARP, min(MOST_THREADS, 1 << (-(-numbers // NUMBERS_A_THREAD) - 1).bit_length()))


@cache
def kernel_of(name: str, real: str) -> Any:
    """A kernel, looked up once."""
    return module(real).get_function(name)


def launch(name: str, like: Array, blocks: int, threads: int, *arguments: Any) -> None:
    """Start a kernel on the device and stream of `like`; `arguments` are arrays, and NumPy scalars of the kernel's types."""
    with placed(like):
        given = tuple(value if isinstance(value, np.generic) else seen(value) for value in arguments)
        kernel_of(name, dtype_of(like))((blocks,), (threads,), given)
