"""Where a run happens: device, backend and why, versions; and folders that are never overwritten."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from immref import dispatch
from immref_trainers.results import Environment

PACKAGES = ("immref", "numpy", "scipy", "torch", "diffusers", "accelerate", "scikit-learn")


def accelerator() -> Accelerator:
    """accelerate on IMMREF_DEVICE, or on the device that it finds by itself."""
    device = os.environ.get(dispatch.DEVICE_VARIABLE)
    if device is None:
        return Accelerator()
    kind = torch.device(device).type if device.partition(":")[0] in ("cpu", "cuda", "mps") else None
    if kind is None:
        raise ValueError(f"device must be cpu, cuda, cuda:N or mps, got {device!r}")
    if kind == "cpu":
        return Accelerator(cpu=True)
    found = Accelerator()
    if found.device.type != kind:
        raise ValueError(f"device {device!r} cannot be used here; accelerate finds {found.device}")
    return found


def describe(accelerator: Accelerator) -> Environment:
    """The environment, once the chosen backend has answered for a tensor on the training device."""
    choice = dispatch.choose(torch.empty(1, 1, device=accelerator.device))
    return Environment(
        device=str(accelerator.device),
        backend=str(choice),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        machine=platform.platform(terse=True),
        versions={name: version(name) for name in PACKAGES},
    )


def check_new(path: Path) -> None:
    """Refuse a folder that already holds something: a run is never written over another."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"output_dir must be a new or empty folder; {path} already holds something")


def new_folder(path: Path) -> Path:
    """Make `path`, which must not hold anything yet."""
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    return path
