"""scikit-learn's digits as colour images of 16×16 with names: the smallest data that can be asked for in words."""

import numpy as np
from sklearn.datasets import load_digits

from immref_trainers.data.settings import CaptionedDigits
from immref_trainers.data.training import SPLIT_SEED, Arrays, Images

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 16


def load(settings: CaptionedDigits) -> Images:
    """Digits in [-1, 1], ink white, enlarged linearly between the centres of pixels; grey in all three channels."""
    pixels, labels = load_digits(return_X_y=True)
    small = pixels.reshape(-1, 8, 8).astype(np.float32) / 8 - 1
    place = np.clip((np.arange(SIDE) + 0.5) / 2 - 0.5, 0, 7)
    lower = np.minimum(place.astype(int), 6)
    part = (place - lower).astype(np.float32)
    rows = small[:, lower] * (1 - part)[:, None] + small[:, lower + 1] * part[:, None]
    large = rows[:, :, lower] * (1 - part) + rows[:, :, lower + 1] * part
    x = np.repeat(large[:, None], 3, axis=1)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    held, kept = order[: settings.held_out], order[settings.held_out :]
    labels = labels.astype(np.int64)
    return Images(Arrays(x[kept], labels[kept]), Arrays(x[held], labels[held]), len(NAMES), -1.0, 1.0, NAMES)
