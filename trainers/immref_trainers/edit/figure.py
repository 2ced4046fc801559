"""Figure 9: images, what is missing of them, and what every pairing makes of it."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from immref_trainers.figures import STYLE, strips

Array = np.ndarray[Any, Any]

SHOWN = 12  # images, a column each


def draw(shown: dict[str, Array], path: Path) -> None:
    """A strip of images (N, C, H, W) of bytes under each name, the same image in a column."""
    with mpl.rc_context(STYLE):
        count = min(SHOWN, *map(len, shown.values()))
        strips({name: pixels[:count] for name, pixels in shown.items()}, count, 0.85).savefig(path, bbox_inches="tight")
