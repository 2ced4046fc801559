"""The noises that a pairing gives to one image over training: how far apart they lie from another image's (Section 3.2, Figure 10)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import immref
from immref import Pairing, Seed, theory
from immref.miscibility import pair_distances
from immref_trainers.analysis.parts import Part, Picture, embedded
from immref_trainers.analysis.subjects import Shared
from immref_trainers.data.training import Source
from immref_trainers.figures import COLOURS, bare
from immref_trainers.tables import NOTHING, Table

Array = np.ndarray[Any, Any]

SHOWN, POINTS = 5, 80  # images whose noises are shown, and noises of each
PIECE = 2**22  # numbers of noise drawn at a time
PAPER = {"vanilla": "0.92 ± 0.06", "knn": "2.17 ± 0.35", "linear_assignment": "4.11 ± 0.37"}


@dataclass(frozen=True)
class Clusters:
    """The noises of I images under one pairing.

    Attributes
    ----------
    distance, spread : mean and standard deviation of the L2 distance between two images' mean noises, over all pairs
    expected : what theory says, as a root mean square; None for linear assignment
    shown : some images' first noises (SHOWN, POINTS, D)
    """

    pairing: Pairing
    distance: float
    spread: float
    expected: float | None
    shown: Array


def part(shared: Shared) -> Part:
    """Every pairing's clusters."""
    settings, source = shared.settings, shared.images.train
    pairings = dict.fromkeys(subject.run.pairing for subject in shared.subjects)
    index = np.random.default_rng(settings.seed).permutation(len(source))[: settings.num_images]
    window = shared.subjects[0].window
    found = [measure(source, index, pairing, window, settings.num_noises, settings.seed) for pairing in pairings]
    placed = [embedded(clusters.shown, settings.seed) for clusters in found]
    return Part(
        "Section 3.2: noise clusters",
        [
            f"{clusters.pairing}: the mean noises of two images lie {clusters.distance:.2f} ± {clusters.spread:.2f} apart."
            for clusters in found
        ],
        [table(found, len(index), settings.num_noises, math.prod(source.shape))],
        [
            Picture(
                "clusters",
                f"t-SNE of the noises of {SHOWN} images, a colour each, {POINTS} noises of each. The paper's Figure 10.",
                scatter(found, placed),
                ["pairing", "image", "x", "y"],
                [
                    [str(clusters.pairing), image, *point]
                    for clusters, points in zip(found, placed, strict=True)
                    for image, own in enumerate(points)
                    for point in own
                ],
            )
        ],
    )


def measure(source: Source, index: Array, pairing: Pairing, window: int, count: int, seed: int) -> Clusters:
    """`count` noises for each of the images named, as training chooses them; only sums and a few noises are kept."""
    x = source.images(index)
    sums, shown, done = np.zeros((len(index), x[0].size)), list[Array](), 0
    for noise_RID in drawn(source, index, pairing, window, count, seed):
        sums += noise_RID.sum(axis=0, dtype=np.float64)
        if done < POINTS:
            shown.append(noise_RID[: POINTS - done, :SHOWN])
        done += len(noise_RID)
    distances = pair_distances(sums / done)
    return Clusters(
        pairing, float(distances.mean()), float(distances.std()), expected(x, pairing, done), np.concatenate(shown).swapaxes(0, 1)
    )


def drawn(source: Source, index: Array, pairing: Pairing, window: int, count: int, seed: int) -> Any:
    """Noises (R, I, D) some at a time: of each image by itself, or in windows with others where the pairing looks at a batch."""
    x = source.images(index)
    size = x[0].size
    if pairing.method != "linear_assignment":
        rows = max(1, PIECE // (len(index) * size))
        for step, start in enumerate(range(0, count, rows)):
            more = min(rows, count - start)
            noise = immref.pair(np.tile(x, (more, *(1,) * (x.ndim - 1))), pairing, rng=Seed(seed, step=step)).noise
            yield noise.reshape(more, len(index), size)
        return
    together = max(1, min(len(index), window // 4))  # the others of a window are drawn anew, as in training
    for step in range(count):
        rng, found = Seed(seed, step=step).generator(purpose=1), np.empty((1, len(index), size), dtype=np.float32)
        for part_ in np.array_split(rng.permutation(len(index)), -(-len(index) // together)):
            rows_B = np.concatenate([index[part_], rng.integers(len(source), size=window - len(part_))])
            word = int(rng.integers(2**63))
            noise = immref.pair(source.images(rows_B), pairing, group=source.labels(rows_B), rng=word).noise
            found[0, part_] = noise[: len(part_)].reshape(len(part_), -1)
        yield found


def expected(x: Array, pairing: Pairing, count: int) -> float | None:
    """What theory says of these images: sampling error alone for vanilla, that and the pull under KNN."""
    flat_ID = x.reshape(len(x), -1).astype(np.float64) * pairing.scale
    if pairing.method == "linear_assignment" or pairing.score == "dot":
        return None
    if pairing.k == 1:
        return theory.cluster_distance(flat_ID.shape[1], count)
    unit_ID = flat_ID / np.linalg.norm(flat_ID, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit_ID), 1)
    cosine = float(np.mean((unit_ID @ unit_ID.T)[first, second]))
    prediction = theory.knn(flat_ID.shape[1], float(np.square(flat_ID).mean()), pairing.k)
    return theory.cluster_distance(flat_ID.shape[1], count, prediction, cosine)


def table(found: list[Clusters], images: int, count: int, size: int) -> Table:
    """Measured, expected, and the paper's."""
    rows = [
        [
            str(clusters.pairing),
            f"{clusters.distance:.2f} ± {clusters.spread:.2f}",
            NOTHING if clusters.expected is None else f"{clusters.expected:.2f}",
            PAPER[clusters.pairing.method] if clusters.pairing.scale == 1 else NOTHING,
        ]
        for clusters in found
    ]
    return Table(
        "Noise clusters",
        f"L2 distance between the mean noises of two of {images} images, {count:,} noises of {size:,} numbers each; ± over pairs of "
        f"images. Two means of the same law lie √(2D/N) = {math.sqrt(2 * size / count):.2f} apart: that is vanilla's, and part of the "
        "others'. Theory: for images of one length. The paper: DDIM on CIFAR-10, 10,000 noises of 3,072 numbers, k not stated, where "
        "√(2D/N) is 0.78 and not its 0.92; its 2.17 lies at the ceiling of k = 8, "
        f"{math.sqrt(2 * theory.expected_maximum(8) ** 2 + 2 * 3072 / 10_000):.2f} for images of any length.",
        ["pairing", "distance", "theory", "the paper"],
        rows,
    )


def scatter(found: list[Clusters], placed: list[Array]) -> Figure:
    """A panel for each pairing."""
    figure = Figure(figsize=(3.6 * len(found), 3.8))
    for axes, clusters, points in zip(np.atleast_1d(figure.subplots(1, len(found))), found, placed, strict=True):
        for colour, own in zip(COLOURS, points, strict=False):
            axes.scatter(*own.T, color=colour, s=7, linewidths=0)
        bare(axes)
        axes.set_title(str(clusters.pairing))
    figure.tight_layout()
    return figure
