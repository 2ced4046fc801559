"""`immref analyze dose`: what each k takes off the distance, measured and predicted, beside the paper's Table 4."""

import sys
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

import immref
from immref import KNN, Pairing, Seed, theory
from immref.miscibility import distance_drop
from immref_trainers import environment, figures, terminal
from immref_trainers.analysis.parts import Picture
from immref_trainers.data import photos
from immref_trainers.data.settings import require
from immref_trainers.tables import NOTHING, Table

Array = np.ndarray[Any, Any]

CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128)
PIXELS, LATENTS = "photographs 3 × 32 × 32", "normal latents 4 × 32 × 32"
PAPER = {(PIXELS, 8): "−1.58 % (DDIM)", (PIXELS, 4): "−1.10 % (flow, consistency)", (LATENTS, 64): "−2.32 % (Stable Diffusion)"}
PIECE = 500  # images paired at a time


@dataclass(frozen=True)
class Settings:
    """What KNN's k does to images of the paper's sizes (Table 4)."""

    num_images: int = 5_000
    """Images of each kind."""
    seed: int = 0
    output_dir: Path | None = None
    """A new or empty folder for dose.png, .svg and .csv; where left out the table is only printed."""

    def __post_init__(self) -> None:
        require(self.num_images >= 2, "num_images", "be ≥ 2", self.num_images)
        require(self.seed >= 0, "seed", "be ≥ 0", self.seed)


@dataclass(frozen=True)
class Row:
    """One kind of images and one k; drops are relative changes of the mean distance."""

    data: str
    mean_square: float
    k: int
    measured: float
    predicted: float
    mean_square_noise: float


def analyze(settings: Settings, console: Console) -> list[Row]:
    """Measure, print the table, and write picture and numbers where asked."""
    if settings.output_dir is not None:
        environment.new_folder(settings.output_dir)
    found = [row for data, m in ((PIXELS, 1.0), (PIXELS, 0.25), (LATENTS, 1.0)) for row in rows(data, m, settings)]
    terminal.show(table(found, settings.num_images), console)
    if settings.output_dir is not None:
        columns = ["data", "mean square of a pixel", "k", "drop measured", "drop predicted", "mean square of the noise"]
        numbers = [[row.data, row.mean_square, row.k, row.measured, row.predicted, row.mean_square_noise] for row in found]
        with mpl.rc_context(figures.STYLE):
            path = Picture("dose", "Table 4", curves(found), columns, numbers).save(settings.output_dir)
        console.print(f"\npicture and numbers: {path.parent}", highlight=False)
    return found


def rows(data: str, mean_square: float, settings: Settings) -> list[Row]:
    """Every k on the same images; all k start from the same first noise."""
    rng = np.random.default_rng(settings.seed)
    x = images(data, mean_square, settings.num_images, rng)
    found = []
    for k in track(CANDIDATES, description=data, transient=True, disable=not sys.stdout.isatty()):
        pairing = KNN(k=k) if k > 1 else Pairing()
        made = [immref.pair(x[start : start + PIECE], pairing, rng=Seed(settings.seed, step=start)) for start in range(0, len(x), PIECE)]
        before, after = (float(np.mean([getattr(paired, name) for paired in made])) for name in ("before", "after"))
        prediction = theory.knn(x[0].size, mean_square, k)
        squares = float(np.mean([np.square(paired.noise, dtype=np.float64).mean() for paired in made]))
        found.append(Row(data, mean_square, k, distance_drop(before, after), distance_drop(prediction.before, prediction.after), squares))
    return found


def images(data: str, mean_square: float, count: int, rng: np.random.Generator) -> Array:
    """Images (count, D) of one kind."""
    if data == PIXELS:
        return photos.normalised(rng, count, mean_square, 32).reshape(count, -1)
    return rng.standard_normal((count, 4 * 32 * 32), dtype=np.float32) * np.float32(mean_square**0.5)


def table(found: list[Row], count: int) -> Table:
    """Every k, and the paper's where it states one."""
    cells = [
        [
            f"{row.data}, m = {row.mean_square:g}",
            str(row.k),
            f"{row.measured:.2%}",
            f"{row.predicted:.2%}",
            f"{row.mean_square_noise:.4f}",
            PAPER.get((row.data, row.k), NOTHING),
        ]
        for row in found
    ]
    return Table(
        "Table 4: what k does",
        f"Change of the mean distance between image and noise on {count:,} images, ± {error(found, count):.2%}; m: mean square of a "
        "pixel, 0.25 where the standard deviation is the 0.5 that the paper states, 1 where it is 1. Theory is for images of one "
        "length, E n² the mean square of the chosen noise. The paper gives for each method its best k and the change; its numbers for "
        "pixels lie at m = 1.",
        ["images", "k", "measured", "theory", "E n²", "the paper"],
        cells,
    )


def error(found: list[Row], count: int) -> float:
    """The standard error of a drop: a distance has a deviation of about √½, and all k share the first noise."""
    return float(
        (0.5 / count) ** 0.5 / min(theory.knn(32 * 32 * (3 if row.data == PIXELS else 4), row.mean_square, 1).before for row in found)
    )


def curves(found: list[Row]) -> Figure:
    """Drop over k."""
    figure = Figure(figsize=(5.5, 3.8))
    axes = figure.subplots()
    kinds = dict.fromkeys((row.data, row.mean_square) for row in found)
    for colour, (data, m) in zip(cycle(figures.COLOURS), kinds, strict=False):
        own = [row for row in found if (row.data, row.mean_square) == (data, m)]
        axes.plot([row.k for row in own], [-100 * row.measured for row in own], "o", color=colour, label=f"{data}, m = {m:g}", markersize=4)
        axes.plot([row.k for row in own], [-100 * row.predicted for row in own], "-", color=colour, linewidth=1)
    for k, drop in ((8, 1.58), (4, 1.10), (64, 2.32)):
        axes.plot(k, drop, "kx")
    axes.plot([], [], "kx", label="the paper")
    axes.set(xscale="log", xlabel="k", ylabel="drop of the mean distance, %")
    axes.set_xticks(CANDIDATES, [str(k) for k in CANDIDATES])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return figure
