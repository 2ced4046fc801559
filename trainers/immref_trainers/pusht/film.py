"""Roll-outs as pictures: a film strip like Figure 7, and a moving one."""

from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from immref_trainers.figures import STYLE
from immref_trainers.pusht.simulator import Simulator

Array = np.ndarray[Any, Any]

EPISODES = 6  # whose states a run keeps
FRAMES = 7  # of a strip
SIDE, STRIP_SIDE = 160, 240  # pixels
HOLD = 10  # frames for which the last one stays
EVERY = 2  # steps between two frames of a moving picture


def strip(episodes: dict[str, Array], path: Path) -> None:
    """Episodes (T, 5) by label, a row of frames for each; all rows show the same times, the last state where one ended before."""
    longest = max(len(states) for states in episodes.values())
    times = np.linspace(0, longest - 1, FRAMES).round().astype(int)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.55 * FRAMES, 1.75 * len(episodes)))
        for row, (label, states) in zip(np.atleast_2d(figure.subplots(len(episodes), FRAMES)), episodes.items(), strict=True):
            table = Simulator(states[0])
            for axes, time in zip(row, times, strict=True):
                table.begin(states[min(time, len(states) - 1)])
                axes.imshow(table.picture(STRIP_SIDE))
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
                ended = " (ended)" if time >= len(states) else ""
                axes.set_xlabel(f"step {time}{ended}, {table.coverage:.0%}", fontsize=8)
            row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        figure.tight_layout(pad=0.4)
        figure.savefig(path, bbox_inches="tight")


def gif(episodes: list[Array], path: Path) -> None:
    """Episodes (T, 5) side by side; each stays at its end until the longest is over."""
    longest = max(len(states) for states in episodes)
    times = [*range(0, longest, EVERY), *[longest - 1] * HOLD]
    tables = [Simulator(states[0]) for states in episodes]
    frames = []
    for time in times:
        row = []
        for table, states in zip(tables, episodes, strict=True):
            table.begin(states[min(time, len(states) - 1)])
            row.append(np.pad(table.picture(SIDE), ((1, 1), (1, 1), (0, 0)), constant_values=0))
        frames.append(np.concatenate(row, axis=1))
    imageio.imwrite(path, np.stack(frames), extension=".gif", duration=100 * EVERY, loop=0)
