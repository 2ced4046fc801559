"""scikit-learn's handwritten digits, shipped inside the package: no download."""

import numpy as np
from sklearn.datasets import load_digits

from immref_trainers.data.settings import Digits
from immref_trainers.data.training import SPLIT_SEED, Arrays, Images


def load(settings: Digits) -> Images:
    """The digits: minus the global mean, divided to a pixel standard deviation of `settings.pixel_std`."""
    digits = load_digits()
    pixels = digits.data.reshape(-1, 1, 8, 8)
    if settings.held_out > len(pixels) - 2:
        raise ValueError(f"data.held_out must leave 2 digits on either side, at most {len(pixels) - 2}, got {settings.held_out}")
    images = ((pixels - pixels.mean()) * (settings.pixel_std / pixels.std())).astype(np.float32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    train, held = (Arrays(images[rows], digits.target[rows]) for rows in (order[settings.held_out :], order[: settings.held_out]))
    return Images(train, held, classes=10, low=float(images.max()), high=float(images.min()))  # ink on paper
