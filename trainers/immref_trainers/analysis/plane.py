"""`immref analyze plane`: the paper's drawings, Figures 1, 4 and 11, computed from real pairings and exact fields in the plane."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

import immref
from immref import KNN, ImageScaling, LinearAssignment, Pairing, Seed, Vanilla
from immref.exact import ExactField
from immref.miscibility import class_skew
from immref_trainers import environment, exact_field, figures, terminal
from immref_trainers.analysis.parts import Part, Picture
from immref_trainers.data.settings import require
from immref_trainers.recipes import digits
from immref_trainers.tables import Table

Array = np.ndarray[Any, Any]

IMAGES = 6  # on a circle
RADIUS = 1.5
BATCH = 60  # ten copies of each
PAIRINGS = (Vanilla(), LinearAssignment(), KNN(k=8), ImageScaling(2.0))
STEPS, PATHS = 40, 90
REACH = 3.6  # of the pictures


@dataclass(frozen=True)
class Settings:
    """Figures 1, 4 and 11 in the plane, from real pairings."""

    num_noises: int = 240
    """Noises shown of each image."""
    seed: int = 0
    output_dir: Path = Path("runs/plane")
    """A new or empty folder."""

    def __post_init__(self) -> None:
        require(self.num_noises >= 4, "num_noises", "be ≥ 4", self.num_noises)
        require(self.seed >= 0, "seed", "be ≥ 0", self.seed)


def analyze(settings: Settings, console: Console) -> Part:
    """Draw both figures, print their numbers."""
    environment.new_folder(settings.output_dir)
    with mpl.rc_context(figures.STYLE):
        part = Part("The plane", [], [], [areas(settings), trajectories(settings)])
        for picture in part.pictures:
            picture.save(settings.output_dir)
            terminal.show(
                Table(picture.name, picture.caption, list(picture.columns), [list(map(str, row)) for row in picture.rows]), console
            )
    console.print(f"\npictures: {settings.output_dir}", highlight=False)
    return part


def data() -> Array:
    """The images: points on a circle (IMAGES, 2)."""
    angle = 2 * np.pi * np.arange(IMAGES) / IMAGES
    return RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def noises(pairing: Pairing, count: int, seed: int) -> tuple[Array, Array]:
    """Noises (N, 2) as training gives them to batches that hold every image equally often, and the image (N,) of each."""
    label = np.arange(BATCH) % IMAGES
    rounds = -(-count * IMAGES // BATCH)
    found = [immref.pair(data()[label], pairing, rng=Seed(seed, step=step)).noise for step in range(rounds)]
    return np.concatenate(found), np.tile(label, rounds)


def areas(settings: Settings) -> Picture:
    """Figures 1 and 4: which noise belongs to which image."""
    figure, rows = Figure(figsize=(3.3 * len(PAIRINGS), 3.5)), []
    for axes, pairing in zip(figure.subplots(1, len(PAIRINGS)), PAIRINGS, strict=True):
        noise, label = noises(pairing, settings.num_noises, settings.seed)
        for image, colour in enumerate(figures.COLOURS[1 : IMAGES + 1]):
            axes.plot(*noise[label == image].T, ".", color=colour, markersize=2.5, alpha=0.7)
            axes.plot(*(pairing.scale * data()[image]), "o", color=colour, markersize=9, markeredgecolor="black")
        _bare(axes, str(pairing))
        skew = class_skew(noise, label)
        rows.append([str(pairing), f"{skew.accuracy:.2f}", f"{skew.chance:.2f}"])
    figure.tight_layout()
    return Picture(
        "pairings",
        "Figures 1 and 4. Large points: images; small ones: the noise that each is trained with. Told: how often the noise tells its "
        "image.",
        figure,
        ["pairing", "told", "chance"],
        rows,
    )


def trajectories(settings: Settings) -> Picture:
    """Figure 11: where the exact field leads from noise."""
    start = np.random.default_rng(settings.seed).standard_normal((PATHS, 2))
    ddim, flow = digits.ddim(), digits.flow()
    kinds: dict[str, Callable[[], list[Array]]] = {
        "DDIM, vanilla": lambda: exact_field.follow(ExactField(data()), start, STEPS, ddim),
        "flow, vanilla": lambda: exact_field.follow(ExactField(data()), start, STEPS, flow),
        "flow, KNN k=8": lambda: exact_field.follow(ExactField(data(), 8), start, STEPS, flow),
        "flow, image ×2": lambda: exact_field.follow(ExactField(2 * data()), start, STEPS, flow),
    }
    figure, rows = Figure(figsize=(3.3 * len(kinds), 3.5)), []
    for axes, (name, follow) in zip(figure.subplots(1, len(kinds)), kinds.items(), strict=True):
        states = np.stack(follow())
        ends = np.linalg.norm(states[-1][:, None] / (2 if "×2" in name else 1) - data(), axis=2).argmin(axis=1)
        for path in range(PATHS):
            axes.plot(*states[:, path].T, color=figures.COLOURS[1 + ends[path]], linewidth=0.7, alpha=0.8)
        axes.plot(*(data() * (2 if "×2" in name else 1)).T, "ko", markersize=5)
        _bare(axes, name)
        rows.append([name, f"{detour(states):.3f}"])
    figure.tight_layout()
    return Picture(
        "trajectories",
        f"Figure 11. From {PATHS} noises the exact field leads to the images in {STEPS} steps; colours: the image at the end. Detour: by "
        "how much paths are longer than straight lines from their start to their end.",
        figure,
        ["field", "detour"],
        rows,
    )


def detour(states_TMD: Array) -> float:
    """Mean length of paths over that of straight lines, less 1."""
    lengths = np.linalg.norm(np.diff(states_TMD, axis=0), axis=2).sum(axis=0)
    return float((lengths / np.linalg.norm(states_TMD[-1] - states_TMD[0], axis=1)).mean() - 1)


def _bare(axes: Any, title: str) -> None:
    figures.bare(axes)
    axes.set(title=title, xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
