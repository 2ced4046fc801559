"""Figure 9: images, what is missing of them, and what every pairing makes of it."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from immref_trainers.figures import STYLE, tile

Array = np.ndarray[Any, Any]

SHOWN = 12  # images, a column each


def draw(strips: dict[str, Array], path: Path) -> None:
    """A strip of images (N, C, H, W) of bytes under each name, the same image in a column."""
    with mpl.rc_context(STYLE):
        count = min(SHOWN, *map(len, strips.values()))
        figure = Figure(figsize=(0.75 * count + 2, 0.85 * len(strips)))
        for axes, (name, pixels) in zip(figure.subplots(len(strips), 1), strips.items(), strict=True):
            axes.imshow(tile(pixels[:count], count), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        figure.tight_layout(h_pad=0.3)
        figure.savefig(path, bbox_inches="tight")
