"""Checkpoints that a crash cannot spoil: a folder of hashed files appears whole or not at all. Nothing here knows of training.

A save writes and syncs every file in a temporary folder, the manifest with their hashes last, syncs the folder, renames it to
`checkpoint-N` and syncs its parent; only then are old checkpoints deleted.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from immref._checks import check_int
from immref_trainers.errors import TrainingError, UsageError

MANIFEST = "manifest.json"
TENSORS, RECORD = ".safetensors", ".json"
FINISHED = re.compile(r"checkpoint-(0|[1-9][0-9]*)")
UNFINISHED = re.compile(r"\.checkpoint-(0|[1-9][0-9]*)\.partial")

Tensors = Mapping[str, torch.Tensor]
Files = dict[str, dict[str, str | int]]  # name → {sha256, size}


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: the steps finished, groups of tensors, now on the CPU, and records."""

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    records: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A checkpoint whose files verify, and one sentence for each newer one that was skipped."""

    folder: Path
    step: int
    skipped: tuple[str, ...] = ()


class Disk:
    """The operations that a save is made of; a test puts its own in their place, to crash or to fail."""

    make = staticmethod(Path.mkdir)  # a folder that does not exist yet
    rename = staticmethod(Path.rename)  # all at once
    remove = staticmethod(shutil.rmtree)  # a folder with all that it holds

    def names(self, folder: Path) -> list[str]:
        """What `folder` holds."""
        return [path.name for path in folder.iterdir()]

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and wait until its bytes are on the disk."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, folder: Path) -> None:
        """Wait until the names in `folder` are on the disk; a file system that cannot (some network shares) is taken as it is."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(handle)


DISK = Disk()


def save(
    run_folder: Path, step: int, tensors: Mapping[str, Tensors], records: Mapping[str, Any], keep: int | None = None, disk: Disk = DISK
) -> Path:
    """Write `checkpoint-N`: once this returns it survives a power cut, and until then the one before does.

    A run can come to a step again: stopped right after a save, or resumed from an older checkpoint. Where `checkpoint-N` is
    damaged it is replaced; where it holds the same tensors it stays, records and all; where it holds others, the run has
    become another one: a TrainingError, as where the disk refuses.

    Parameters
    ----------
    run_folder : an existing folder with one writer at a time; what a killed save left there is removed
    step : int N ≥ 0, the steps finished
    tensors : groups of strided tensors on any device, one file `GROUP.safetensors` each
        Those that share memory are written one by one. Up to two groups are in the host's memory once more meanwhile.
    records : one file `NAME.json` each; a TypeError or ValueError where JSON would not give it back as it was
    keep : int ≥ 1, or None for all
        How many checkpoints up to step N stay, this one among them; newer ones are left alone.
    """
    step, keep = check_int(step, "step", 0), None if keep is None else check_int(keep, "keep", 1)
    texts = [(name + RECORD, _json(name, value)) for name, value in records.items()]
    folder, partial = run_folder / f"checkpoint-{step}", run_folder / f".checkpoint-{step}.partial"
    files: Files = {}
    try:
        names = disk.names(run_folder)
        for name in filter(UNFINISHED.fullmatch, names):
            disk.remove(run_folder / name)
        disk.make(partial)
        for name, data in chain(((name + TENSORS, safetensors.torch.save(_on_host(group))) for name, group in tensors.items()), texts):
            disk.write(partial / name, data)
            files[name] = _entry(data)
        disk.write(partial / MANIFEST, _json("manifest", {"step": step, "files": files}))
        disk.sync(partial)
        try:
            before = _verify(folder)[1]
        except TrainingError:
            if folder.name in names:
                disk.remove(folder)
            disk.rename(partial, folder)
        else:
            disk.remove(partial)
            if any(before.get(name) != entry for name, entry in files.items() if name.endswith(TENSORS)):
                raise TrainingError(f"{folder} holds other tensors than this run after {step} steps; continue in another output_dir")
        disk.sync(run_folder)
        for old in [number for number in _steps(names) if number < step][keep - 1 :] if keep else ():
            disk.remove(run_folder / f"checkpoint-{old}")
    except OSError as error:
        with suppress(OSError):
            disk.remove(partial)
        mount = next(path for path in (run_folder.resolve(), *run_folder.resolve().parents) if os.path.ismount(path))
        raise TrainingError(
            f"saving {folder.name} in {run_folder}, on the disk mounted at {mount}, failed: {error.strerror or error}; "
            "the newest checkpoint that was finished is intact"
        ) from error
    return folder


def checkpoints(run_folder: Path) -> dict[int, Path]:
    """The checkpoints in `run_folder` by step, newest first, whether or not they verify."""
    return {step: run_folder / f"checkpoint-{step}" for step in _steps(DISK.names(run_folder) if run_folder.is_dir() else [])}


def verified(run_folder: Path) -> Found | None:
    """The newest checkpoint whose files are all there with their hashes; None where there is no checkpoint.

    A TrainingError where there are checkpoints and none verifies: starting anew would bury them.
    """
    skipped: list[str] = []
    for folder in checkpoints(run_folder).values():
        try:
            return Found(folder, _verify(folder)[0], tuple(skipped))
        except TrainingError as error:
            skipped.append(f"{folder.name} is skipped: {error}")
    if skipped:
        raise TrainingError(f"no checkpoint in {run_folder} can be used, remove them to start anew; {'; '.join(skipped)}")
    return None


def find(run_folder: Path, which: str | Path) -> Found | None:
    """What to resume from: 'latest' as `verified` tells, the name of a checkpoint in `run_folder`, or a path.

    A UsageError for a folder that does not exist lists what is there; a TrainingError for one that does not verify.
    """
    if which == "latest":
        return verified(run_folder)
    folder = run_folder / which if str(which) == Path(which).name else Path(which)
    if not folder.is_dir():
        there = ", ".join(path.name for path in checkpoints(run_folder).values()) or "no checkpoint"
        raise UsageError(f"resume_from_checkpoint must be latest or a checkpoint's folder, got {folder}; {run_folder} holds {there}")
    return Found(folder, _verify(folder)[0])


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint out of the very bytes that were verified.

    A TrainingError names folder and file where one is missing, too many, unreadable or not as it was saved.
    """
    step, files = _manifest(folder)
    tensors, records = {}, {}
    for name, entry in files.items():
        data = _read(folder / name, entry)
        if name.endswith(TENSORS):
            tensors[name.removesuffix(TENSORS)] = safetensors.torch.load(data)
        else:
            records[name.removesuffix(RECORD)] = json.loads(data)
    return Checkpoint(step, tensors, records)


def _verify(folder: Path) -> tuple[int, Files]:
    """Step and files of a checkpoint that `load` would read."""
    step, files = _manifest(folder)
    for name, entry in files.items():
        _read(folder / name, entry)
    return step, files


def _manifest(folder: Path) -> tuple[int, Files]:
    """Step and files as the manifest says, once the folder is known to hold these files and no others."""
    data, names = _read(folder / MANIFEST), set(DISK.names(folder)) - {MANIFEST}
    try:
        manifest = json.loads(data)
        step, files = check_int(manifest["step"], "step", 0), dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{folder / MANIFEST} is damaged") from None
    if _steps([folder.name]) not in ([], [step]):
        raise TrainingError(f"{folder / MANIFEST} is damaged: it says step {step}")
    for what, found in {"lacks": files.keys() - names, "holds what its manifest does not know:": names - files.keys()}.items():
        if found:
            raise TrainingError(f"{folder} {what} {', '.join(sorted(found))}")
    return step, files


def _read(path: Path, entry: object = None) -> bytes:
    """The bytes of a file that are as its `entry` in the manifest says; the manifest itself has none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or error}") from error
    if entry is not None and _entry(data) != entry:
        raise TrainingError(f"{path} is not as {MANIFEST} says: it has {_entry(data)}, not {entry}")
    return data


def _entry(data: bytes) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _json(name: str, value: Any) -> bytes:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if json.loads(text) != value:
        raise TypeError(f"records[{name!r}] must hold no tuples and no keys but strings: JSON would change them")
    return text.encode()


def _on_host(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors as safetensors takes them: on the CPU, contiguous, no two in one storage."""
    host = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in host.items()}
    return {name: tensor if owners[tensor.untyped_storage().data_ptr()] == name else tensor.clone() for name, tensor in host.items()}


def _steps(names: list[str]) -> list[int]:
    """N of every 'checkpoint-N', the largest first."""
    return sorted((int(match[1]) for match in map(FINISHED.fullmatch, names) if match), reverse=True)
