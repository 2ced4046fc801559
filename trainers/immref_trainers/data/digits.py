"""scikit-learn's handwritten digits, shipped inside the package: no download."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from immref_trainers.config import Data

FloatArray = np.ndarray[Any, Any]

SPLIT_SEED = 0  # the held-out digits are the same in every run


@dataclass(frozen=True)
class Images:
    """Normalised images (N, C, H, W) float32 with labels (N,), those for training and those held out."""

    train: FloatArray
    train_labels: FloatArray
    held_out: FloatArray
    held_out_labels: FloatArray


def load(data: Data) -> Images:
    """The digits: minus the global mean, divided to a pixel standard deviation of `data.pixel_std`."""
    digits = load_digits()
    pixels = digits.data.reshape(-1, 1, 8, 8)
    if data.held_out > len(pixels) - 2:
        raise ValueError(f"data.held_out must leave 2 digits on either side, at most {len(pixels) - 2}, got {data.held_out}")
    images = ((pixels - pixels.mean()) * (data.pixel_std / pixels.std())).astype(np.float32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    train, held = order[data.held_out :], order[: data.held_out]
    return Images(images[train], digits.target[train], images[held], digits.target[held])
