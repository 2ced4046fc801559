"""What is predicted at each layer of denoising: Figure 3 (c, d, e), and Figure 8 where runs differ in image scaling."""

from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

from immref_trainers.analysis.parts import Part, Picture, embedded
from immref_trainers.analysis.subjects import Shared, Subject
from immref_trainers.figures import COLOURS, bare, plain_ticks
from immref_trainers.tables import Table

Array = np.ndarray[Any, Any]

SHOWN_LAYERS = 8  # of the embedded paths at most, evenly spaced


@dataclass(frozen=True)
class Layers:
    """One run's predicted images.

    Attributes
    ----------
    distances : Fréchet distance of the images predicted at each layer, from the noisiest, and of the samples
    own : share of paths whose predicted image is nearer to the path's own sample than to any other's
    placed : the paths embedded in the plane
    """

    subject: Subject
    distances: Array
    own: Array
    placed: Array


def part(shared: Shared) -> Part:
    """Distances layer by layer, and paths in the plane."""
    found = [measure(shared, subject) for subject in shared.regressions]
    rows = [
        [layers.subject.name, layers.subject.steps - layer, *values]
        for layers in found
        for layer, values in enumerate(zip(layers.distances, layers.own, strict=False))
    ]
    count = found[0].subject.steps
    return Part(
        "Figures 3 and 8: what the noisy layers do",
        findings(found),
        [table(found, shared.settings)],
        [
            Picture(
                "layers",
                f"Fréchet distance of the image predicted at each of {count} layers, from pure noise (τ = {count}) on. The paper's "
                "Figures 3 (d), 8 (b).",
                curves(found),
                ["run", "layer", "Fréchet distance", "own goal"],
                rows,
            ),
            paths_picture(found),
        ],
    )


def measure(shared: Shared, subject: Subject) -> Layers:
    """Predicted images of one run; the paths are some of those that are judged."""
    settings = shared.settings
    labels = shared.labels(settings.num_samples)
    predicted, samples = subject.predicted(shared.noise(settings.num_samples), labels)
    distances = np.array([shared.judge.score(images).fd for images in (*predicted, samples)])
    count = min(settings.num_paths, settings.num_samples)
    paths, ends = predicted[:, :count].reshape(len(predicted), count, -1), samples[:count].reshape(count, -1)
    return Layers(subject, distances, own_nearest(paths, ends), at_some_layers(paths, settings.seed))


def own_nearest(paths_SMD: Array, ends_MD: Array) -> Array:
    """At each layer the share of paths whose predicted image has its own end nearest: 1 where every noise has a goal of its own."""
    return np.array([np.mean(cdist(points, ends_MD).argmin(axis=1) == np.arange(len(ends_MD))) for points in paths_SMD])


def at_some_layers(paths_SMD: Array, seed: int) -> Array:
    """Points on all paths embedded together (S', M, 2), at some of the layers."""
    kept = np.unique(np.linspace(0, len(paths_SMD) - 1, SHOWN_LAYERS).round().astype(int))
    return embedded(paths_SMD[kept], seed)


def findings(found: list[Layers]) -> list[str]:
    """What each run knows at its noisy layers."""
    told = []
    for layers in found:
        half = len(layers.own) // 2
        told.append(
            f"{layers.subject.name}: the image predicted from pure noise is at distance {layers.distances[0]:.2f}; in the noisier half "
            f"of the layers {layers.own[:half].mean():.0%} of the predicted images are nearest to their own path's sample."
        )
    return told


def table(found: list[Layers], settings: Any) -> Table:
    """Some layers of every run."""
    steps = found[0].subject.steps
    shown = [layer for layer in dict.fromkeys((0, 1, steps // 4, steps // 2, steps - 1)) if layer < steps]
    rows = [
        [
            layers.subject.name,
            *(f"{layers.distances[layer]:.2f}" for layer in shown),
            f"{layers.distances[-1]:.3f}",
            *(f"{layers.own[layer]:.0%}" for layer in shown),
        ]
        for layers in found
    ]
    return Table(
        "Predicted images by layer",
        f"Fréchet distance of the images predicted (Eq. 2) at layer τ of {steps}, from {settings.num_samples:,} noises, within the range "
        f"of the data; own goal: share of {settings.num_paths} paths whose predicted image is nearer to their own sample than to any "
        "other path's. Both at large τ: the noisy layers know already where they lead.",
        ["run", *(f"distance\nτ = {steps - layer}" for layer in shown), "samples", *(f"own goal\nτ = {steps - layer}" for layer in shown)],
        rows,
    )


def curves(found: list[Layers]) -> Figure:
    """Distance over layers."""
    figure = Figure(figsize=(5.5, 3.8))
    axes = figure.subplots()
    for colour, layers in zip(cycle(COLOURS), found, strict=False):
        steps = layers.subject.steps
        axes.plot(range(steps, -1, -1), layers.distances, "o-", color=colour, label=layers.subject.name, markersize=4)
    axes.invert_xaxis()
    axes.set_xticks(range(0, found[0].subject.steps + 1, max(1, found[0].subject.steps // 5)))
    axes.set(xlabel="layer τ (0: the sample)", ylabel="Fréchet distance", yscale="log")
    plain_ticks(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure


def paths_picture(found: list[Layers]) -> Picture:
    """The embedded paths of every run."""
    figure = Figure(figsize=(4.2 * len(found), 4.2))
    rows = []
    for axes, layers in zip(np.atleast_1d(figure.subplots(1, len(found))), found, strict=True):
        placed = layers.placed
        shade = np.linspace(0, 1, len(placed))
        for path in range(placed.shape[1]):
            axes.plot(*placed[:, path].T, color="#999999", linewidth=0.4, alpha=0.6, zorder=1)
        for layer, points in enumerate(placed):
            axes.scatter(*points.T, c=[shade[layer]] * len(points), cmap="viridis", vmin=0, vmax=1, s=6, linewidths=0, zorder=2)
        bare(axes)
        axes.set_title(layers.subject.name)
        rows += [
            [layers.subject.name, layer, path, *placed[layer, path]] for layer in range(len(placed)) for path in range(placed.shape[1])
        ]
    return Picture(
        "paths",
        f"t-SNE of predicted images over the layers, {found[0].placed.shape[1]} noises; a line joins those of one noise, from the "
        "noisiest layer (dark) to the last (light). Each run is embedded by itself. The paper's Figures 3 (c, e), 8 (a).",
        figure,
        ["run", "layer shown", "noise", "x", "y"],
        rows,
    )
