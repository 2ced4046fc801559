"""Means and deviations of a VAE's posteriors, worked out once: in memory, or on disk in shards that check themselves."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open

from immref_trainers import arrays
from immref_trainers.errors import UsageError

Array = np.ndarray[Any, Any]
Posteriors = Callable[[Array], tuple[Array, Array]]  # indices (B,) → means and deviations (B, C, H/f, W/f)

SHARD = 1_024  # images of a file
SAMPLED = 32  # images that are encoded again when a cache is opened
TOLERANCE = 1e-2  # of a latent's deviation, by which devices may differ


def in_memory(encode: Posteriors, count: int) -> Posteriors:
    """Those of `count` images, encoded now."""
    mean, std = encode(np.arange(count))
    return lambda index_B: (mean[index_B], std[index_B])


def on_disk(encode: Posteriors, count: int, folder: Path) -> Posteriors:
    """Those of `count` images in `folder`, what it lacks encoded now.

    Raises
    ------
    UsageError
        Where the files are damaged, or of other images or of another VAE: some images are encoded again and compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = Shards(folder, count)
    lacking = [number for number in range(-(-count // SHARD)) if not shards.file(number).exists()]
    some = np.unique(np.linspace(0, count - 1, SAMPLED).astype(int))
    kept = some[~np.isin(some // SHARD, lacking)]
    if len(kept):  # before anything is added to another data set's
        shards.check_same(kept, *encode(kept))
    if lacking:
        for number in track(lacking, f"encoding {folder}", console=Console(stderr=True), transient=True):
            shards.write(number, *encode(np.arange(number * SHARD, min(count, (number + 1) * SHARD))))
    return shards.rows


@dataclass(frozen=True)
class Shards:
    """`count` images in files of SHARD; each tells the hash of what it holds, which is checked when it is first read."""

    folder: Path
    count: int
    opened: dict[int, Any] = field(default_factory=dict)

    def file(self, number: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"latents-{number:05}.safetensors"

    def write(self, number: int, mean: Array, std: Array) -> None:
        """A shard appears whole or not at all."""
        unfinished = self.folder / f".latents-{number:05}.{os.getpid()}"
        arrays.save({"mean": mean, "std": std}, unfinished, {"images": str(self.count), "sha256": digest(mean, std)})
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.rename(self.file(number))

    def rows(self, index_B: Array) -> tuple[Array, Array]:
        """Means and deviations by image."""
        parts = []
        for index in index_B.tolist():
            shard, row = self._shard(index // SHARD), index % SHARD
            parts.append([shard.get_slice(name)[row : row + 1] for name in ("mean", "std")])
        mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, std

    def check_same(self, index_B: Array, mean: Array, std: Array) -> None:
        """A UsageError where these images have other posteriors here."""
        kept = self.rows(index_B)
        if kept[0].shape == mean.shape:
            apart = np.maximum(*(abs(here - now).reshape(len(now), -1).max(axis=1) for here, now in zip(kept, (mean, std), strict=True)))
            differing = index_B[~(apart <= TOLERANCE * mean.std())]
            if not len(differing):
                return
            found = f"image {differing[0]} differs"
        else:
            found = f"a latent is {'×'.join(map(str, kept[0].shape[1:]))} and not {'×'.join(map(str, mean.shape[1:]))}"
        raise UsageError(f"network.latent_cache {self.folder} must hold the latents of these images by this VAE, and {found}; delete it")

    def _shard(self, number: int) -> Any:
        if number not in self.opened:
            file = self.file(number)
            try:
                shard: Any = safe_open(file, framework="numpy")
                facts = shard.metadata() or {}
                whole = facts.get("sha256") == digest(shard.get_tensor("mean"), shard.get_tensor("std"))
            except (SafetensorError, OSError) as error:
                raise UsageError(f"network.latent_cache: {file} cannot be read ({error}); delete it, and it is made again") from error
            if not whole:
                raise UsageError(f"network.latent_cache: {file} is not as it was written; delete it, and it is made again")
            if facts["images"] != str(self.count):
                held = f"{int(facts['images']):,} images and not of {self.count:,}"
                raise UsageError(f"network.latent_cache {self.folder} holds latents of {held}; delete it, or pass another directory")
            self.opened[number] = shard
        return self.opened[number]


def digest(mean: Array, std: Array) -> str:
    """SHA-256 of the numbers."""
    return hashlib.sha256(b"".join(part.tobytes() for part in (mean, std))).hexdigest()
