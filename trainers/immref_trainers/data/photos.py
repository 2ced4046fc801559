"""Patches of the two photographs shipped inside scikit-learn: image-like data of any size, no download."""

from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images

FloatArray = np.ndarray[Any, Any]


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
