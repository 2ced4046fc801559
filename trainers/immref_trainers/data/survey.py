"""Every image read once before training: what is damaged, of which shape and how bright, in a record that JSON can hold."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from immref_trainers.data import transform
from immref_trainers.data.decode import UNREADABLE
from immref_trainers.data.listing import Listing
from immref_trainers.data.settings import Directory
from immref_trainers.data.transform import Normalisation

Array = np.ndarray[Any, Any]

SHOWN = 5  # unreadable images that a sentence names; the summary has all
BLOCK = 1024  # images under way at a time


@dataclass(frozen=True)
class Unreadable:
    """An image left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What reading every image once has shown.

    Attributes
    ----------
    settings : what was asked
    listed, count : images found, and those of them that can be read
    unreadable : the others
    channels, height, width : shape of every image as training sees it
    converted : images turned from grey to three channels, or from colour to one
    enlarged : images smaller than they are wanted
    classes : names of the labels, or ()
    normalisation : with its constants
    digest : SHA-256 of names and labels, by which the same images are known again
    """

    settings: Directory
    listed: int
    count: int
    unreadable: tuple[Unreadable, ...]
    channels: int
    height: int
    width: int
    converted: int
    enlarged: int
    classes: tuple[str, ...]
    normalisation: Normalisation
    digest: str


@dataclass(frozen=True)
class Look:
    """One image: its mode and size (width, height) as read, and how often each value occurs in what training would see of it."""

    mode: str
    size: tuple[int, int]
    histogram: Array


def survey(
    listing: Listing, settings: Directory, normalisation: Normalisation | None, workers: int, watch: Callable[[int, int], None] | None
) -> Summary:
    """Read every image; constants that are not given are measured on the centre of each, not mirrored."""
    looks: dict[str, int] = {"L": 0, "RGB": 0}
    histograms = {mode: np.zeros(256, dtype=np.int64) for mode in looks}
    unreadable: list[Unreadable] = []
    size, first, enlarged = (0, 0), "", 0
    for row, seen in enumerate(each(lambda row: look(listing, settings, row), workers, range(listing.count))):
        if watch is not None:
            watch(row + 1, listing.count)
        if isinstance(seen, str):
            unreadable.append(Unreadable(listing.name(row), seen))
            continue
        if not first:
            size, first = seen.size, listing.name(row)
        if settings.resolution is None and seen.size != size:
            raise ValueError(
                f"images must have one size, got {size[0]}×{size[1]} of {first} and {seen.size[0]}×{seen.size[1]} of {listing.name(row)}; "
                f"set resolution, for example {min(*size, *seen.size)}"
            )
        looks[seen.mode] += 1
        histograms[seen.mode] += seen.histogram
        enlarged += settings.resolution is not None and min(seen.size) < (settings.resize or settings.resolution)
    bearable(unreadable, listing.count, settings)
    channels = settings.channels or (3 if looks["RGB"] else 1)
    if normalisation is None:
        weight = 3 if channels == 3 else 1  # a grey value counts once for each channel
        measured = histograms["RGB"] + weight * histograms["L"]
        normalisation = transform.RANGE if settings.normalisation == "range" else transform.unit_std(measured)
    width, height = size if settings.resolution is None else (settings.resolution, settings.resolution)
    return Summary(
        settings=settings,
        listed=listing.count,
        count=sum(looks.values()),
        unreadable=tuple(unreadable),
        channels=channels,
        height=height,
        width=width,
        converted=looks["L" if channels == 3 else "RGB"],
        enlarged=enlarged,
        classes=listing.classes,
        normalisation=normalisation,
        digest=digest(listing),
    )


def look(listing: Listing, settings: Directory, row: int) -> Look | str:
    """One image, or why it cannot be read."""
    try:
        image = listing.image(row)
    except UNREADABLE as error:
        return str(error)
    seen = fitted(image.convert("L") if settings.channels == 1 else image, settings)
    return Look(image.mode, image.size, np.asarray(seen.histogram()).reshape(-1, 256).sum(axis=0))


def fitted(image: Image.Image, settings: Directory, top: float = 0.5, left: float = 0.5) -> Image.Image:
    """The square that is asked for, or the image as it is."""
    if settings.resolution is None:
        return image
    return transform.square(image, settings.resolution, settings.resize or settings.resolution, top, left)


def bearable(unreadable: list[Unreadable], listed: int, settings: Directory) -> None:
    """Refuse to go on where more cannot be read than is allowed."""
    if len(unreadable) <= settings.max_unreadable * listed:
        return
    named = "; ".join(f"{one.name}: {one.reason}" for one in unreadable[:SHOWN])
    more = "; …" if len(unreadable) > SHOWN else ""
    raise ValueError(
        f"{len(unreadable)} of {listed} images of {settings.train_data_dir} cannot be read ({named}{more}); mend or remove them, or let "
        f"max_unreadable, which is {settings.max_unreadable:g}, be at least {len(unreadable) / listed:.3g}"
    )


def recognised(known: Summary, listing: Listing, settings: Directory) -> Summary:
    """The earlier summary, if it is one of these images and settings; the directory may have moved."""
    if replace(known.settings, train_data_dir=settings.train_data_dir) != settings:
        raise ValueError(f"known must be a summary under the same settings, got {known.settings} and now {settings}")
    if (known.listed, known.digest) != (listing.count, digest(listing)):
        raise ValueError(f"known must be a summary of the images of {settings.train_data_dir}; their names, number or labels have changed")
    return replace(known, settings=settings)


def digest(listing: Listing) -> str:
    """SHA-256 of the names and labels."""
    total = hashlib.sha256()
    for row in range(listing.count):
        total.update(f"{listing.name(row)}\0{'' if listing.labels is None else listing.labels[row]}\n".encode())
    return total.hexdigest()


def each(function: Callable[..., Any], workers: int, *rows: Any) -> Iterator[Any]:
    """The function of each row in order, computed by so many threads."""
    if workers == 1:
        yield from map(function, *rows)
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(rows[0]), BLOCK):
            yield from pool.map(function, *(values[start : start + BLOCK] for values in rows))
