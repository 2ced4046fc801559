"""What is done to the pixels: shorter side and square, place and mirroring by (seed, epoch, index), normalisation."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image

from immref_trainers import streams

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Normalisation:
    """x = (pixel - shift) / scale, the same for all channels; pixels are 0 … 255.

    Attributes
    ----------
    method : "range" maps 0 … 255 to [-1, 1]; "unit_std" maps the data to mean 0 and standard deviation 1
    shift, scale : the constants, in units of the pixels
    """

    method: Literal["range", "unit_std"]
    shift: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shift) and 0 < self.scale < math.inf):
            raise ValueError(f"shift must be finite and scale finite and > 0, got {self.shift} and {self.scale}")

    def apply(self, pixels: Array) -> Array:
        """Pixels as the network sees them, float32."""
        x: Array = (pixels.astype(np.float32) - np.float32(self.shift)) / np.float32(self.scale)
        return x

    def invert(self, x: Array) -> Array:
        """Pixels for pictures, uint8: rounded, and what lies outside 0 … 255 is clipped."""
        pixels: Array = np.rint(x.astype(np.float32) * np.float32(self.scale) + np.float32(self.shift))
        return pixels.clip(0, 255).astype(np.uint8)


RANGE = Normalisation("range", 127.5, 127.5)


def unit_std(histogram: Array) -> Normalisation:
    """The constants from how often each value 0 … 255 occurs, (256,) integers: exact sums, whatever the order of the images."""
    values, counts = np.arange(256), [int(count) for count in histogram]
    total = sum(counts)
    mean = sum(int(value) * count for value, count in zip(values, counts, strict=True)) / total
    variance = sum((int(value) - mean) ** 2 * count for value, count in zip(values, counts, strict=True)) / total
    if variance == 0:
        raise ValueError(f"images must vary for normalisation='unit_std'; every pixel is {mean:g}")
    return Normalisation("unit_std", mean, math.sqrt(variance))


@dataclass(frozen=True)
class Views:
    """How each of B images is seen.

    Attributes
    ----------
    top, left : (B,) place of the square, as a fraction in [0, 1) of the room there is; 0.5 is the centre
    mirrored : (B,) left to right
    """

    top: Array
    left: Array
    mirrored: Array


def centred(count: int) -> Views:
    """The centre of every image, not mirrored."""
    half = np.full(count, 0.5)
    return Views(half, half, np.zeros(count, dtype=bool))


def views(count: int, seed: int, epoch_B: Array, index_B: Array, *, random_crop: bool, random_flip: bool) -> Views:
    """How each of B among `count` images is seen in its epoch, a pure function of (seed, epoch, index).

    Three numbers are drawn for each whatever is switched on, so that random_crop does not change who is mirrored.
    """
    drawn = np.empty((len(index_B), 3))
    for epoch in np.unique(epoch_B):
        here = epoch_B == epoch
        drawn[here] = _drawn(count, seed, int(epoch))[index_B[here]]
    plain = centred(len(index_B))
    return Views(
        top=drawn[:, 0] if random_crop else plain.top,
        left=drawn[:, 1] if random_crop else plain.left,
        mirrored=drawn[:, 2] < 0.5 if random_flip else plain.mirrored,
    )


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int, epoch: int) -> Array:
    """Three uniform numbers for each image (N, 3) of one epoch, by row; kept, as the next step needs them again."""
    return streams.generator(streams.AUGMENT, seed, epoch).random((count, 3))


def square(image: Image.Image, resolution: int, side: int, top: float = 0.5, left: float = 0.5) -> Image.Image:
    """The square (resolution, resolution) of the image scaled to a shorter side of `side` pixels, side ≥ resolution.

    Bicubic, with antialiasing where it shrinks; an image of that side already is cut and not resampled.
    """
    least = min(image.size)
    if least == side:
        column, row = int(left * (image.width - resolution + 1)), int(top * (image.height - resolution + 1))
        return image.crop((column, row, column + resolution, row + resolution))
    span = least * resolution / side  # of the square, in pixels of the image as it is
    x, y = left * (image.width - span), top * (image.height - span)
    box = (x, y, min(x + span, image.width), min(y + span, image.height))
    return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box)


def to_array(image: Image.Image) -> Array:
    """The pixels (C, H, W) uint8."""
    return np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
