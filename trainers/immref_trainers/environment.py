"""Where a run happens: device, backend and why, versions; and folders that are never overwritten."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

import immref_torch
from immref import dispatch
from immref._checks import nearest_name
from immref_trainers.results import Environment

DEVICES = ("cpu", "cuda", "mps")
PACKAGES = ("immref", "numpy", "scipy", "torch", "diffusers", "accelerate", "scikit-learn")


def accelerator(mixed_precision: str = "no") -> Accelerator:
    """accelerate on IMMREF_DEVICE, or on the device that it finds by itself."""
    asked = dispatch.asked_device()
    if asked is None:
        return Accelerator(mixed_precision=mixed_precision)
    if asked.partition(":")[0] not in DEVICES:
        raise ValueError(
            f"device must be one of {', '.join(DEVICES)}, or one of them with a number as in cuda:0, "
            f"got {asked!r}{nearest_name(asked, DEVICES)}"
        )
    if reason := immref_torch.unavailable(asked):
        raise ValueError(reason)
    if torch.device(asked).type == "cpu":
        return Accelerator(mixed_precision=mixed_precision, cpu=True)
    os.environ["ACCELERATE_TORCH_DEVICE"] = asked
    return Accelerator(mixed_precision=mixed_precision)


def describe(accelerator: Accelerator, backend: str | None = None) -> Environment:
    """The environment, once the backend asked for has answered for a tensor on the training device."""
    probe = torch.empty(1, 1, device=accelerator.device)
    choice = dispatch.choose(probe, backend)
    dispatch.carry_in(choice.backend, probe)
    return Environment(
        device=str(accelerator.device),
        backend=str(choice),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        machine=platform.platform(terse=True),
        versions={name: version(name) for name in PACKAGES},
    )


def agreed(path: Path, accelerator: Accelerator) -> Path:
    """The first process's `path`, in every process: one that is named after the time may differ between them."""
    if accelerator.num_processes == 1:
        return path
    return Path(broadcast_object_list([str(path)])[0])


def check_new(path: Path) -> None:
    """Refuse a folder that already holds something: a run is never written over another."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"output_dir must be a new or empty folder; {path} already holds something")


def new_folder(path: Path, *, again: bool = False) -> Path:
    """Make `path`, which must not hold anything yet unless a command goes on `again` with what it holds."""
    if not again:
        check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    return path
