"""A user's own data: a folder of images, or an array file. No pickles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from immref_trainers.data import transform
from immref_trainers.data.decode import SUFFIXES, UNREADABLE, decode

Array = np.ndarray[Any, Any]

NUMBERS = 2**25  # read at most: 128 MiB of float32
FEWEST = 64  # images read whatever their size
SAMPLE_SEED = 0  # the same images in every run


@dataclass(frozen=True)
class Collection:
    """Images (N, ...) float32 as a model would see them, and what is known about them.

    Attributes
    ----------
    x : array (N, ...), a random sample where there were more
    label : array (N,), or None
    total : how many there were
    unreadable : files that are not the image that their name says, with the reason
    scaling : what was done to the values
    """

    x: Array
    label: Array | None
    total: int
    unreadable: tuple[str, ...]
    scaling: str


def load(path: Path, limit: int, image_size: int | None = None) -> Collection:
    """Up to `limit` images from a folder of images (PIL), or from a file .npy, .npz or .safetensors.

    Parameters
    ----------
    path : Path
        Class folders give labels; so does the key 'label' of .npz and .safetensors, whose images have the key 'image', or are
        the only other array.
    limit : int ≥ 1
        Fewer are read where so many would be more than 128 MiB.
    image_size : int, optional
        Images of a folder are scaled and cut to this square; without, all must have one size.

    Raises
    ------
    ValueError
        Saying what is wrong with the file, and what is wanted.
    """
    if path.is_dir():
        return _folder(path, limit, image_size)
    if not path.exists():
        raise ValueError(f"data must be digits, photos, a folder or a file; {path} does not exist")
    if image_size is not None:
        raise ValueError(f"image_size is for folders of images, not for {path.name}")
    return _arrays(_read(path), path, limit)


def _read(path: Path) -> dict[str, Array]:
    """The arrays of a file by key."""
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise ValueError(f"data must be a folder of images, or a file .npy, .npz or .safetensors, got {path}")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if path.suffix == ".npy":
            return {"image": np.load(path, mmap_mode="r")}
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, KeyError, TypeError, BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


def _arrays(arrays: dict[str, Array], path: Path, limit: int) -> Collection:
    """The images and labels of an array file."""
    others = [key for key in arrays if key != "label"]
    if "image" not in others and len(others) != 1:
        raise ValueError(f"{path.name} must hold one array besides 'label', or one called 'image'; it holds {', '.join(arrays) or 'none'}")
    x = arrays["image" if "image" in others else others[0]]
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"images of {path.name} must have shape (N, ...), no axis empty, got {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(f"images of {path.name} must be uint8 or floating, got {x.dtype}")
    label = np.asarray(arrays["label"]) if "label" in arrays else None
    if label is not None and (label.shape != x.shape[:1] or label.dtype.kind not in "iuUS"):
        raise ValueError(f"label of {path.name} must be {len(x)} integers or strings, got {label.dtype} {label.shape}")
    rows = _rows(len(x), int(np.prod(x.shape[1:])), limit)
    whole = x.dtype == np.uint8
    values = transform.RANGE.apply(x[rows]) if whole else np.asarray(x[rows], dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"images of {path.name} must be finite, got NaN or infinity")
    return Collection(values, None if label is None else label[rows], len(x), (), "from 0 … 255 to [-1, 1]" if whole else "as in the file")


def _folder(path: Path, limit: int, image_size: int | None) -> Collection:
    """The images below a folder; the folders that hold them are the labels where there are several and all lie equally deep."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    chosen, unreadable = [], []
    for file in (files[row] for row in _rows(len(files), 1, limit)):
        try:
            chosen.append((file, decode(file)))
        except UNREADABLE as error:
            unreadable.append(f"{file.relative_to(path)}: {error}")
            continue
        if image_size is not None:
            chosen[-1] = file, transform.square(chosen[-1][1], image_size, image_size)
        width, height = chosen[0][1].size
        if chosen[-1][1].size != (width, height):
            raise ValueError(
                f"images must have one size, got {width}×{height} and {file.relative_to(path)} of "
                f"{'×'.join(map(str, chosen[-1][1].size))}; give --image-size, for example --image-size {min(width, height)}"
            )
        if len(chosen) >= max(FEWEST, NUMBERS // (3 * width * height)):
            break
    if not chosen:
        found = f"{len(unreadable)} could not be read, the first {unreadable[0]}" if unreadable else f"looked for {', '.join(SUFFIXES)}"
        raise ValueError(f"{path} holds no readable image; {found}")
    mode = "L" if all(image.mode == "L" for _, image in chosen) else "RGB"
    x = np.stack([transform.to_array(image.convert(mode)) for _, image in chosen])
    parts = [file.relative_to(path).parts for file, _ in chosen]
    named = len({len(part) for part in parts}) == 1 and len({part[-2:-1] for part in parts}) > 1
    label = np.asarray([part[-2] for part in parts]) if named else None
    return Collection(transform.RANGE.apply(x), label, len(files), tuple(unreadable), "from 0 … 255 to [-1, 1]")


def _rows(total: int, dimension: int, limit: int) -> Array:
    """Which rows are read, in random order: all, or a sample of them."""
    count = min(total, limit, max(FEWEST, NUMBERS // dimension))
    return np.random.default_rng(SAMPLE_SEED).permutation(total)[:count]
