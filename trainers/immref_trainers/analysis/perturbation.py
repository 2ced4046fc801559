"""Does a generated image belong to its noise? Eq. 1 and Figure 2: noise is perturbed, and the image looked at again."""

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from immref.diffusion import perturb
from immref_trainers import streams
from immref_trainers.analysis.parts import Part, Picture
from immref_trainers.analysis.subjects import Shared, Subject
from immref_trainers.figures import COLOURS, strips
from immref_trainers.tables import NOTHING, Table

Array = np.ndarray[Any, Any]

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 1.0)  # the paper shows the first three
DRAWS = 10  # perturbations of a noise at each weight


def part(shared: Shared) -> Part:
    """Every run's images under perturbed noise."""
    noise = shared.noise(shared.settings.num_perturbed)
    made = {subject.name: perturbed(shared, subject, noise) for subject in shared.subjects}
    rows = [[name, weight, *numbers(shared, images, weight)] for name, images in made.items() for weight in WEIGHTS]
    first = next(iter(made.values()))
    told = [
        f"{name}: at W = {weight:.0%} images move by {moved:.0%} of what two noises' images differ by"
        + ("." if changed is None else f", and {changed:.0%} ± {error:.0%} are read as another class.")
        for name, weight, moved, changed, error in rows
        if weight == 0.3
    ]
    shown = {"W = 0": first[0][:1].repeat(DRAWS, axis=0)} | {f"W = {weight:.0%}": first[weight][:DRAWS] for weight in WEIGHTS}
    return Part(
        "Figure 2: do images keep to their noise?",
        told,
        [table(rows, len(noise))],
        [
            Picture(
                "perturbed",
                f"One noise of {shared.subjects[0].name}, perturbed {DRAWS} times at each weight W (Eq. 1, not re-normalised).",
                strips({name: shared.images.pixels(images) for name, images in shown.items()}, DRAWS, 0.95),
                COLUMNS,
                rows,
            ),
            Picture(
                "perturbation",
                "How far images move when their noise is perturbed; 1: as far as those of two noises.",
                curve(rows),
                COLUMNS,
                rows,
            ),
        ],
    )


COLUMNS = ["run", "W", "moved", "class changed", "standard error over noises"]


def perturbed(shared: Shared, subject: Subject, noise: Array) -> dict[float, Array]:
    """Images by weight: one of each noise at 0, `DRAWS` of each, one noise after the other, beyond."""
    labels = None if shared.labels(1) is None else np.zeros(len(noise), dtype=np.int64)  # of one class, whose images are then compared
    steps = 1 if subject.run.sampler.method == "multistep" else None  # further steps add noise of their own
    found = {0.0: subject.sample(noise, labels, steps)}
    generator = streams.generator(streams.SAMPLING, shared.settings.seed, 1)
    others = generator.standard_normal((len(noise) * DRAWS, *noise.shape[1:]), dtype=np.float32)
    for weight in WEIGHTS:
        moved = perturb(noise.repeat(DRAWS, axis=0), others, weight)
        found[weight] = subject.sample(moved, None if labels is None else labels.repeat(DRAWS), steps)
    return found


def numbers(shared: Shared, images: dict[float, Array], weight: float) -> tuple[float, float | None, float | None]:
    """How far images move, in the distance of two noises' images; how many change their class where it can be read, and its error."""
    still, moved = images[0.0].reshape(len(images[0.0]), -1), images[weight].reshape(len(images[weight]), -1)
    apart = np.sqrt(np.square(still - np.roll(still, 1, axis=0)).mean())
    share = float(np.sqrt(np.square(moved - still.repeat(DRAWS, axis=0)).mean()) / apart)
    read = shared.judge.first.label
    if read is None:
        return share, None, None
    changed_M = (read(images[weight]) != read(images[0.0]).repeat(DRAWS)).reshape(-1, DRAWS).mean(axis=1)
    return share, float(changed_M.mean()), float(changed_M.std(ddof=1) / np.sqrt(len(changed_M)))


def table(rows: list[list[Any]], count: int) -> Table:
    """Every run and weight."""
    cells = [
        [name, f"{weight:.0%}", f"{moved:.2f}", f"{weight / 2**0.5:.2f}", NOTHING if changed is None else f"{changed:.1%} ± {error:.1%}"]
        for name, weight, moved, changed, error in rows
    ]
    return Table(
        "Perturbed noise",
        f"Of {count} noises, each perturbed {DRAWS} times: root mean square change of the image, in multiples of that between the images "
        "of two noises; and the share of images that a classifier reads otherwise. The paper shows one noise of vanilla DDIM, on "
        "CIFAR-10: at 10 % nothing is seen to change, at 30 % a few images show another object.",
        ["run", "W", "moved", "if the image\nwere the noise", "class changed"],
        cells,
    )


def curve(rows: list[list[Any]]) -> Figure:
    """Moved, over the weight."""
    figure = Figure(figsize=(5, 3.6))
    axes = figure.subplots()
    for colour, name in zip(cycle(COLOURS), dict.fromkeys(row[0] for row in rows), strict=False):
        own = [row for row in rows if row[0] == name]
        axes.plot([0, *(row[1] for row in own)], [0, *(row[2] for row in own)], "o-", color=colour, label=name, markersize=4)
    weights = np.array([0, *WEIGHTS])
    axes.plot(weights, weights / 2**0.5, ":", color="black", label="if the image were the noise")
    axes.set(xlabel="weight W of the perturbation", ylabel="moved")
    axes.legend(frameon=False, fontsize=9)
    return figure
