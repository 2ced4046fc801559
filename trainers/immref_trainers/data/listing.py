"""The images of a source before any of them is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from immref._checks import nearest_name

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Listing:
    """N images by row.

    Attributes
    ----------
    count : N
    name : of a row, for sentences
    image : of a row, in mode "L" or "RGB"; raises one of `decode.UNREADABLE`
    labels : array (N,) int64, or None
    classes : names of the labels, or () where they have none
    captions : of a row, a text or a list of texts; or None
    pixels : the images themselves (N, C, H, W) uint8, where they lie in memory
    """

    count: int
    name: Callable[[int], str]
    image: Callable[[int], Image.Image]
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    captions: Callable[[int], Any] | None = None
    pixels: Array | None = None


def column(setting: str, asked: str | None, default: str, columns: Sequence[str]) -> str | None:
    """The column to read: the one asked for, else the default where there is one, else None."""
    if asked is None:
        return default if default in columns else None
    if asked not in columns:
        raise ValueError(f"{setting} must be one of {', '.join(columns)}, got {asked!r}{nearest_name(asked, columns)}")
    return asked


def numbered(setting: str, values: Sequence[Any], classes: tuple[str, ...], name: Callable[[int], str]) -> tuple[Array, tuple[str, ...]]:
    """Labels as numbers from 0, and their names: texts are numbered in their order; numbers keep the names they have."""
    found = np.asarray(values)
    if found.dtype.kind not in "iuU":
        raise ValueError(f"{setting} must hold integers or texts, none left out, got {found.dtype}")
    if found.dtype.kind == "U":
        known, number = np.unique(found, return_inverse=True)
        return number.astype(np.int64), tuple(known.tolist())
    outside = np.flatnonzero((found < 0) | (found >= len(classes) if classes else False))
    if len(outside):
        most = f" and < {len(classes)}" if classes else ""
        raise ValueError(f"{setting} must be ≥ 0{most}, got {found[outside[0]]} for {name(int(outside[0]))}")
    return found.astype(np.int64), classes
