"""What stands between this backend and a GPU, in a sentence."""

import re
from functools import cache
from importlib.metadata import distributions

import cupy


def unavailable(device: str | None) -> str | None:
    """Why `device` cannot be used here, or None."""
    if device is not None and not re.fullmatch(r"cuda(:\d+)?", device):
        return f"it needs a GPU, cuda or cuda:0, got device {device!r}"
    runtime = cupy.cuda.runtime
    driver, wanted = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if len(builds := installed_builds()) > 1:
        return f"{' and '.join(builds)} are installed together and overwrite each other; uninstall all of them, then install one"
    if driver == 0:
        return "there is no CUDA driver on this machine"
    if driver // 1000 < wanted // 1000:
        remedy = f"update it, or install the CuPy that is made for CUDA {driver // 1000}"
        return f"the CUDA driver knows CUDA up to {version(driver)}, this CuPy needs {version(wanted)}; {remedy}"
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return f"CUDA does not start ({error})"
    if missing := compiler_missing():
        return missing
    return None if (number_of(device) or 0) < count else f"device {device or 'cuda'!r} does not exist, the number of GPUs is {count}"


@cache
def installed_builds() -> tuple[str, ...]:
    """The distributions here that each bring a package `cupy`."""
    names = {(found.metadata["Name"] or "").lower() for found in distributions()}
    return tuple(sorted(name for name in names if re.fullmatch(r"cupy(-cuda\d+x?|-rocm[-\d]+)?", name)))


@cache
def compiler_missing() -> str | None:
    """Why the kernels cannot be compiled, or None."""
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        return f"CUDA's compiler NVRTC is not found ({str(error).splitlines()[0]}); pip install 'cupy-cuda13x[ctk]'"
    return None


def number_of(device: str | None) -> int | None:
    """The number in 'cuda:1'; None is the current device."""
    return int(device.partition(":")[2]) if device and ":" in device else None


def version(number: int) -> str:
    """'12.4' of 12040, as CUDA writes its versions."""
    return f"{number // 1000}.{number % 1000 // 10}"
