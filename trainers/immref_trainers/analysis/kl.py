"""`immref analyze kl`: how far chosen noise is from N(0, I), beside the paper's two numbers (Section 3.3.2)."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import immref
from immref import Seed, dispatch, theory
from immref._checks import MOST_CANDIDATES, check_int
from immref.miscibility import Moments, gaussian_divergence
from immref_trainers import terminal
from immref_trainers.data import photos
from immref_trainers.tables import NOTHING, Table

MEAN_SQUARES = (1.0, 0.25)  # of a pixel: unit variance, and the standard deviation of .5 that the paper states
PAPER = {1: 48.25, 8: 48.60}  # by k; 50,000 noises of 3,072 numbers
PAPER_SIZE = (50_000, 32)


@dataclass(frozen=True)
class Settings:
    """How many noises, of which size."""

    num_noises: int = 50_000
    """Noises of each kind; more than numbers in an image."""
    k: int = 8
    """Candidates of KNN."""
    image_size: int = 32
    """Side of the images, three channels."""
    batch_size: int = 2_000
    """Noises drawn at a time; fewer need less memory."""
    seed: int = 0
    backend: str | None = None
    """auto, reference, torch, cupy or an installed plugin; wins over IMMREF_BACKEND."""
    json: Path | None = None
    """Write the numbers to this file."""

    def __post_init__(self) -> None:
        least = {"num_noises": self.dimension + 1, "k": 2, "image_size": 1, "batch_size": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be ≥ {low}, got {getattr(self, name)}")
        check_int(self.k, "k", 2, MOST_CANDIDATES)
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ValueError(f"json must be a file in a folder that exists, got {self.json}")

    @property
    def dimension(self) -> int:
        """D, numbers per image."""
        return 3 * self.image_size**2


@dataclass(frozen=True)
class Row:
    """One kind of noise: KL in nats, its prediction, and the paper's value where it has one."""

    noise: str
    mean_square: float | None
    plug_in: float
    corrected: float
    excess: float
    predicted_excess: float
    predicted: float
    paper: float | None


def analyze(settings: Settings, console: Console) -> list[Row]:
    """Measure, print the table, and write it where asked."""
    choice = dispatch.choose(np.empty((1, 1), dtype=np.float32), settings.backend)
    console.print(f"backend {choice}", highlight=False)
    found = rows(settings)
    terminal.show(table(found, settings), console)
    if settings.json is not None:
        record = {"settings": asdict(settings) | {"json": None}, "backend": str(choice), "rows": [asdict(row) for row in found]}
        settings.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return found


def rows(settings: Settings) -> list[Row]:
    """Vanilla, and KNN near isotropic images and near patches of photographs; all share vanilla's draws."""
    sources: dict[str, Callable[[np.random.Generator, int, float], Any]] = {
        "isotropic": lambda rng, count, m: rng.standard_normal((count, settings.dimension), dtype=np.float32) * np.float32(math.sqrt(m)),
        "photographs": lambda rng, count, m: photos.normalised(rng, count, m, settings.image_size),
    }
    kinds = [(name, m) for name in sources for m in MEAN_SQUARES]
    vanilla, chosen = Moments(settings.dimension), {kind: Moments(settings.dimension) for kind in kinds}
    starts = range(0, settings.num_noises, settings.batch_size)
    for step, start in enumerate(track(starts, description="drawing", transient=True, disable=not sys.stdout.isatty())):
        count, seed = min(settings.batch_size, settings.num_noises - start), Seed(settings.seed, step=step)
        like = np.empty((count, settings.dimension), dtype=np.float32)
        vanilla.add(immref.vanilla(like, rng=seed, backend=settings.backend))
        for name, m in kinds:
            x = sources[name](seed.generator(purpose=1), count, m)
            chosen[name, m].add(immref.knn(x, settings.k, rng=seed, backend=settings.backend))
    bias, base = theory.vanilla_kl(settings.num_noises, settings.dimension)[0], gaussian_divergence(vanilla)
    found = [Row("vanilla", None, base.plug_in, base.corrected, 0.0, 0.0, bias, paper(settings, 1))]
    for name, m in kinds:
        kl, excess = gaussian_divergence(chosen[name, m]), theory.knn(settings.dimension, m, settings.k).kl_excess
        label = f"KNN k={settings.k}, {name}"
        found.append(Row(label, m, kl.plug_in, kl.corrected, kl.plug_in - base.plug_in, excess, bias + excess, paper(settings, settings.k)))
    return found


def paper(settings: Settings, k: int) -> float | None:
    """The paper's number at its own setting; the normalisation of the images is not reported."""
    return PAPER.get(k) if (settings.num_noises, settings.image_size) == PAPER_SIZE else None


def table(found: list[Row], settings: Settings) -> Table:
    """Every kind of noise."""
    mean, std = theory.vanilla_kl(settings.num_noises, settings.dimension)
    cells = [
        [
            row.noise,
            NOTHING if row.mean_square is None else f"{row.mean_square:g}",
            *(f"{value:.3f}" for value in (row.plug_in, row.predicted, row.corrected, row.excess, row.predicted_excess)),
            NOTHING if row.paper is None else f"{row.paper:.2f}",
        ]
        for row in found
    ]
    return Table(
        f"KL(Gaussian fitted to {settings.num_noises:,} noises of {settings.dimension:,} numbers ‖ N(0, I)), in nats",
        f"plug-in: of the sample mean and the unbiased covariance; for true N(0, I) it is {mean:.3f} ± {std:.3f}, all of it the bias of "
        "a finite sample. corrected: without that bias. excess: over vanilla, from the same draws. theory: exact for isotropic images, "
        "a lower bound for photographs, whose noises are pulled in few directions. m: mean square of a pixel.",
        ["noise", "m", "plug-in", "theory", "corrected", "excess", "theory", "paper"],
        cells,
    )
