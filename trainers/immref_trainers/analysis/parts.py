"""What an analysis hands on: tables, and pictures with the numbers that they show."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from immref_trainers.tables import Table

Array = np.ndarray[Any, Any]


def embedded(points: Array, seed: int) -> Array:
    """t-SNE of points (…, D) together, (…, 2)."""
    flat = points.reshape(-1, points.shape[-1])
    embedding = TSNE(init="pca", perplexity=min(30.0, (len(flat) - 1) / 4), max_iter=500, random_state=seed)
    placed: Array = embedding.fit_transform(flat).reshape(*points.shape[:-1], 2)
    return placed


@dataclass(frozen=True)
class Picture:
    """A figure and its numbers.

    Attributes
    ----------
    name : of its files NAME.png, NAME.svg and NAME.csv
    columns, rows : the numbers, as the CSV file has them
    """

    name: str
    caption: str
    figure: Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def save(self, folder: Path) -> Path:
        """Write the three files; return the PNG's."""
        for kind in ("png", "svg"):
            self.figure.savefig(folder / f"{self.name}.{kind}", bbox_inches="tight")
        with (folder / f"{self.name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])
        return folder / f"{self.name}.png"


@dataclass(frozen=True)
class Part:
    """One analysis: its place in the paper, what came out in sentences, and what shows it."""

    title: str
    findings: list[str]
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
