"""Skips the CUDA environments before anything is installed where there is no CUDA device.

IMMREF_REQUIRE_CUDA=1 turns the skip off: on a GPU machine a missing device is then a failure.
"""

import ctypes
import os
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Skip

NEEDS_CUDA = ("torch-cuda", "cupy")


@impl
def tox_on_install(tox_env: ToxEnv, arguments: Any, section: str, of_type: str) -> None:  # noqa: ARG001
    """tox calls this before each installation."""
    if tox_env.name in NEEDS_CUDA and not os.environ.get("IMMREF_REQUIRE_CUDA") and cuda_devices() == 0:
        raise Skip(f"{tox_env.name}: no CUDA device on this machine")


def cuda_devices() -> int:
    """How many devices the CUDA driver reports; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
