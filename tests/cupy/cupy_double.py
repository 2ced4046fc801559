"""A stand-in for CuPy where there is no GPU: NumPy computes, kernels run as C++ on the CPU (on_cpu.h). No GPU code runs.

What it takes from the installed CuPy is what its callers can get wrong: names resolve only where CuPy has them, arguments are
bound to CuPy's signatures, arrays refuse implicit conversion, kernels check the number and types of their arguments.
"""

import ctypes
import inspect
import operator
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cupy as REAL  # noqa: N812  (the installed one, which imports without a GPU)
import numpy as np
import pytest

HERE = Path(__file__).parent
HOST = (1, 0)  # DLPack's CPU
C_TYPES = {
    "float": "float32", "double": "float64", "long long": "int64", "Word": "uint64", "unsigned": "uint32", "bool": "bool"
}  # fmt: skip


class ndarray:  # noqa: N801  (CuPy's name)
    """Values on a pretended device."""

    __module__ = "cupy"  # as array libraries are told apart by
    __array_ufunc__ = None  # NumPy's functions refuse it, as they cannot compute on a GPU
    __hash__ = None

    def __init__(self, values):
        self._values = values

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(REAL.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")
        found = getattr(self._values, name)
        return partial(call, found) if callable(found) else wrap(found) if isinstance(found, np.ndarray) else found

    @property
    def device(self):
        return Device(0)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def get(self):
        return self._values.copy()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device != HOST:
            raise BufferError("the array lies on a GPU")
        return self._values.copy().__dlpack__()

    def __dlpack_device__(self):
        return (2, 0)

    def __getitem__(self, key):
        return wrap(self._values[unwrap(key)])

    def __setitem__(self, key, value):
        self._values[unwrap(key)] = unwrap(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return map(wrap, self._values)

    def __bool__(self):
        return bool(self._values)

    def __int__(self):
        return int(self._values)

    def __float__(self):
        return float(self._values)

    def __index__(self):
        return operator.index(self._values)


ORDERING = ("lt", "le", "gt", "ge", "eq", "ne")
ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")


def _operators():
    both = [*ORDERING, *(f"{side}{name}" for name in ARITHMETIC for side in ("", "r", "i"))]
    for name in (f"__{name}__" for name in both):
        setattr(ndarray, name, lambda self, other, name=name: call(getattr(self._values, name), other))
    for name in ("__neg__", "__pos__", "__abs__", "__invert__"):
        setattr(ndarray, name, lambda self, name=name: call(getattr(self._values, name)))


_operators()


def wrap(value):
    """NumPy's results as the double's; where CuPy has no scalars, there are none."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    return tuple(map(wrap, value)) if isinstance(value, tuple) else value


def unwrap(value):
    """The double's arrays as NumPy's, wherever they are; NumPy's own are refused."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, tuple | list):
        return type(value)(map(unwrap, value))
    return value


def call(function, *args, **kwargs):
    """A function of NumPy on the double's arrays."""
    return wrap(function(*map(unwrap, args), **{name: unwrap(value) for name, value in kwargs.items()}))


@cache
def function(path):
    """A function of CuPy by its path: NumPy's, called with what CuPy's signature takes."""
    real = _walk(REAL, path)
    try:
        ours = _walk(np, path)
    except AttributeError:
        raise AttributeError(f"the double cannot compute cupy.{path}") from None
    if isinstance(real, type) or not callable(real):
        return ours
    try:
        signature = inspect.signature(real)
    except ValueError:  # a ufunc
        signature = None

    def bound(*args, **kwargs):
        if signature is not None:
            signature.bind(*args, **kwargs)
        kwargs.pop("blocking", None)
        return call(ours, *args, **kwargs)

    return bound


class Device:
    """cupy.cuda.Device: there is one."""

    def __init__(self, number=None):
        self.id = number.id if isinstance(number, Device) else number or 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class ExternalStream(Device):
    """cupy.cuda.ExternalStream: nothing to wait for."""

    def __init__(self, ptr, device_id=-1):
        self.id = ptr


class Generator:
    """cupy.random.Generator."""

    def __init__(self, seed=None):
        self._rng = np.random.default_rng(seed)

    def integers(self, *args, **kwargs):
        inspect.signature(REAL.random.Generator.integers).bind(self, *args, **kwargs)
        return call(self._rng.integers, *args, **kwargs)


class RandomState:
    """cupy.random.RandomState."""

    def __init__(self):
        self._rng = np.random.default_rng()

    def tomaxint(self, size=None):
        return wrap(self._rng.integers(2**63, size=size, dtype=np.int64))


class RawModule:
    """cupy.RawModule, compiled for the CPU; also refuses arguments whose types are not the kernel's."""

    def __init__(self, code=None, *, options=()):
        self.kernels = {
            name: [re.sub(r"\s*\w+$", "", argument.strip()) for argument in arguments.split(",")]
            for name, arguments in re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s)?(\w+)\(([^)]*)\)', code)
        }
        self.library = compiled(code, options, tuple(self.kernels))

    def get_function(self, name):
        return partial(self._launch, name)

    def _launch(self, name, grid, block, args):
        types = self.kernels[name]
        if len(args) != len(types):
            raise TypeError(f"{name} takes {len(types)} arguments, got {len(args)}")
        given = [self._argument(name, *pair) for pair in zip(types, args, strict=True)]
        places = (ctypes.c_void_p * len(given))(*(value.ctypes.data for value in given))
        start = getattr(self.library, f"start_{name}")
        start.restype = ctypes.c_char_p
        if wrong := start(places, ctypes.c_uint(*grid), ctypes.c_uint(*block)):
            raise RuntimeError(f"{name}: {wrong.decode()}")

    def _argument(self, name, c_type, value):
        """What lies at the place that the kernel reads an argument from."""
        pointer = c_type.endswith("*")
        wanted = C_TYPES[re.sub(r"const |\*", "", c_type).strip().replace("REAL", self.library.real)]
        if pointer is not isinstance(value, ndarray) or str(value.dtype) != wanted:
            raise TypeError(f"{name}: an argument is {c_type}, got {type(value).__name__} {value.dtype}")
        if not pointer:
            return np.asarray(value)
        assert value._values.flags.c_contiguous
        return np.asarray(value._values.ctypes.data, dtype=np.uint64)


@cache
def compiled(code, options, kernels):
    """The kernels as a library of the CPU."""
    starts = "".join(
        f'\nextern "C" const char* start_{name}(void** given, unsigned blocks, unsigned threads)'
        f"{{ return on_cpu::start({name}, given, blocks, threads); }}"
        for name in kernels
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(code + starts)
        command = ["g++", "-O2", "-shared", "-fPIC", "-include", HERE / "on_cpu.h", *options, source, "-o", target]
        subprocess.run(command, check=True, capture_output=True, text=True)
        library = ctypes.CDLL(target)
    library.real = next(option.partition("=")[2] for option in options if option.startswith("-DREAL"))
    return library


class Module(ModuleType):
    """cupy, or a module of it: the names given, and NumPy's functions under CuPy's names."""

    def __init__(self, name, **names):
        super().__init__(name)
        self.__spec__ = SimpleNamespace(parent=name, name=name, loader=None)
        self.__path__ = []
        vars(self).update(names)
        real, ours = (_walk(root, name.partition(".")[2]) for root in (REAL, np))
        shared = [public for public in dir(real) if public[0] != "_" and hasattr(ours, public)]
        self.__all__ = [public for public in shared if not issubclass(type(getattr(real, public)), ModuleType)]

    def __getattr__(self, name):
        if name.startswith("_"):  # what CuPy's own modules ask their package for
            return getattr(_walk(REAL, self.__name__.partition(".")[2]), name)
        return function(f"{self.__name__}.{name}".partition(".")[2])


def _walk(module, path):
    return operator.attrgetter(path)(module) if path else module


def empty(shape, dtype=float, order="C"):
    """Memory that nobody has written to looks like it."""
    return ndarray(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -77, dtype=dtype))


def array(obj, dtype=None, copy=True, order="K", **_):
    """cupy.array, which takes NumPy's."""
    values = obj._values if isinstance(obj, ndarray) else obj
    return ndarray(np.array(values, dtype=dtype, copy=copy or None, order=order))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """cupy.asarray."""
    if isinstance(a, ndarray) and not copy and dtype in (None, a.dtype):
        return a
    return array(a, dtype=dtype)


def from_dlpack(array, *, device=None, copy=None):
    """cupy.from_dlpack, for capsules of CPU tensors that play tensors on a GPU: the same memory."""
    host = SimpleNamespace(__dlpack__=lambda **_: array, __dlpack_device__=lambda: HOST)
    return ndarray(np.from_dlpack(host))


def install():
    """Put the double in CuPy's place, before immref_cupy is imported."""
    runtime = SimpleNamespace(
        driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError
    )
    state = RandomState()
    parts = {
        "cuda": SimpleNamespace(Device=Device, ExternalStream=ExternalStream, runtime=runtime, nvrtc=REAL.cuda.nvrtc),
        "random": Module(
            "cupy.random",
            Generator=Generator,
            get_random_state=lambda: state,
            randint=lambda low, high: wrap(state._rng.integers(low, high)),
        ),
        "linalg": Module("cupy.linalg"),
        "fft": Module("cupy.fft"),
    }
    names = {"empty": empty, "array": array, "asarray": asarray, "from_dlpack": from_dlpack, "asnumpy": lambda a: a.get()}
    double = Module("cupy", ndarray=ndarray, RawModule=RawModule, __version__=f"{REAL.__version__} (double)", **parts, **names)
    sys.modules.update({"cupy": double, "cupy.linalg": parts["linalg"], "cupy.fft": parts["fft"]})


def pytest_report_header():
    return f"cupy-double: NumPy and g++ stand in for CuPy {REAL.__version__}; no GPU code runs"


@pytest.hookimpl(tryfirst=True)
def pytest_configure():
    """Install the double, and give the laws a subject of its name."""
    install()
    import immref_cupy
    from immref_spec import subjects

    subjects.ARRAYS["cupy-double"] = (lambda: replace(subjects.of(immref_cupy), name="cupy-double"), "cupy-cuda13x")
