"""Patches of the two photographs shipped inside scikit-learn: image-like data of any size, no download."""

from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images

from immref_trainers.data.settings import Photos
from immref_trainers.data.training import SPLIT_SEED, Arrays, Images

FloatArray = np.ndarray[Any, Any]

STRIPS = 4  # into which the width of a photograph is cut: a patch's label is its photograph and strip
SEEN = 0.75  # of a strip's columns, from the left, is for training


@cache
def pixels() -> FloatArray:
    """Both photographs (2, H, W, 3) in [-1, 1], float32."""
    return np.stack(load_sample_images().images).astype(np.float32) / np.float32(127.5) - 1


def patches(rng: np.random.Generator, count: int, size: int = 32) -> FloatArray:
    """Random patches (N, 3, size, size) in [-1, 1], float32."""
    photos, height, width, _ = pixels().shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"size must be in [1, {min(height, width)}], the height of the photographs, got {size}")
    windows = np.lib.stride_tricks.sliding_window_view(pixels(), (size, size), axis=(1, 2))
    return np.ascontiguousarray(
        windows[rng.integers(photos, size=count), rng.integers(height - size + 1, size=count), rng.integers(width - size + 1, size=count)]
    )


def normalised(rng: np.random.Generator, count: int, mean_square: float, size: int = 32) -> FloatArray:
    """Patches minus the photographs' mean, scaled so that a pixel of the photographs has this mean square."""
    centre, spread = float(pixels().mean(dtype=np.float64)), float(pixels().std(dtype=np.float64))
    return (patches(rng, count, size) - np.float32(centre)) * np.float32(np.sqrt(mean_square) / spread)


def load(settings: Photos) -> Images:
    """Patches minus the photographs' mean, with pixels of `settings.pixel_std`; those held out come from columns of their own."""
    centre, spread = float(pixels().mean(dtype=np.float64)), float(pixels().std(dtype=np.float64))
    strip = pixels().shape[2] // STRIPS
    border = int(SEEN * strip)
    rng = np.random.default_rng(SPLIT_SEED)
    parts = []
    for first, last, count in ((0, border, settings.patches), (border, strip, settings.held_out)):
        x, label = _labelled(rng, count, settings.size, strip, first, last)
        parts.append(Arrays((x - np.float32(centre)) * np.float32(settings.pixel_std / spread), label))
    low, high = ((end - centre) * settings.pixel_std / spread for end in (-1.0, 1.0))
    train, held_out = parts
    return Images(train, held_out, classes=len(pixels()) * STRIPS, low=low, high=high)


def _labelled(rng: np.random.Generator, count: int, size: int, strip: int, first: int, last: int) -> tuple[FloatArray, FloatArray]:
    """Random patches within columns first … last - 1 of the strips, and which photograph and strip they come from (N,)."""
    photos, height, _, _ = pixels().shape
    photo, number, left = (rng.integers(most, size=count) for most in (photos, STRIPS, last - first - size + 1))
    windows = np.lib.stride_tricks.sliding_window_view(pixels(), (size, size), axis=(1, 2))
    x = np.ascontiguousarray(windows[photo, rng.integers(height - size + 1, size=count), number * strip + first + left])
    return x, photo * STRIPS + number
