"""How much of an image is known at each layer: by the trained network, and by the exact field that it could at best become."""

from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import immref
from immref import Seed
from immref.exact import ExactField
from immref_trainers import exact_field
from immref_trainers.analysis.parts import Part, Picture
from immref_trainers.analysis.subjects import Shared, Subject
from immref_trainers.figures import COLOURS
from immref_trainers.tables import NOTHING, Table

Array = np.ndarray[Any, Any]

WINDOWS = 4  # of the training batch, from which pairs are taken
MOST = 10_000  # images of which the mean is taken


@dataclass(frozen=True)
class Learned:
    """Share of the images' variance that is predicted at each layer, from the noisiest; negative: worse than the mean image.

    Attributes
    ----------
    network : by the network
    exact : by the exact field of the run's pairing, where it has one and the images are few
    """

    subject: Subject
    network: Array
    exact: Array | None


def part(shared: Shared) -> Part:
    """Network and field, layer by layer."""
    found = [measure(shared, subject) for subject in shared.regressions]
    rows = [
        [learned.subject.name, len(learned.network) - layer, network, None if learned.exact is None else learned.exact[layer]]
        for learned in found
        for layer, network in enumerate(learned.network)
    ]
    return Part(
        "Figure 3 (a, b): does the noisiest layer know where it leads?",
        [
            f"{learned.subject.name}: at the noisiest layer the network's image has R² = {learned.network[0]:.2f}"
            + ("." if learned.exact is None else f", that of the pairing's exact field {learned.exact[0]:.3f}.")
            for learned in found
        ],
        [table(found)],
        [
            Picture(
                "learned",
                "R² of the predicted image over layers: networks (points) and the exact field of each pairing (dashed).",
                curves(found),
                ["run", "layer", "network", "exact field"],
                rows,
            )
        ],
    )


def measure(shared: Shared, subject: Subject) -> Learned:
    """Training images with noise chosen as in training, denoised at every layer."""
    run, source = subject.run, shared.images.train
    pairs = [paired(shared, subject, number) for number in range(WINDOWS)]
    x, noise = (np.concatenate(arrays) for arrays in zip(*((x, noise) for x, noise, _ in pairs), strict=True))
    labels = np.concatenate([labels for *_, labels in pairs]) if run.network.class_conditional else None
    known = run.pairing.method != "linear_assignment" and run.pairing.score == "l2" and not run.network.class_conditional
    field = (
        ExactField(exact_field.flat(shared.images) * run.pairing.scale, run.pairing.k)
        if known and exact_field.fits(shared.images, run)
        else None
    )
    mean = source.images(np.arange(min(len(source), MOST))).mean(axis=0) * run.pairing.scale
    variance = np.square(x - mean).mean()
    network, exact = [], []
    for t, a, b in subject.layers:
        x_t = a * x + b * noise
        network.append(1 - np.square(subject.denoised(x_t, t, a, b, labels) - x).mean() / variance)
        if field is not None:
            denoised = field.denoise(x_t.reshape(len(x), -1), a, b)
            exact.append(1 - np.square(denoised - x.reshape(len(x), -1)).mean() / variance)
    return Learned(subject, np.array(network), np.array(exact) if field else None)


def paired(shared: Shared, subject: Subject, number: int) -> tuple[Array, Array, Array | None]:
    """A training batch as the network sees it: scaled images, their noise, labels."""
    run, source = subject.run, shared.images.train
    rows = Seed(shared.settings.seed, step=number).generator(purpose=1).integers(len(source), size=subject.window)
    labels = source.labels(rows)
    made = immref.pair(source.images(rows), run.pairing, group=labels, rng=Seed(shared.settings.seed, step=number))
    return made.x, made.noise, labels


def table(found: list[Learned]) -> Table:
    """Some layers of every run."""
    steps = len(found[0].network)
    shown = [layer for layer in dict.fromkeys((0, 1, steps // 4, steps // 2)) if layer < steps]

    def cells(values: Array | None) -> list[str]:
        return [NOTHING if values is None else f"{values[layer]:.2f}" for layer in shown]

    return Table(
        "What is known at the noisy layers",
        "R² of the image predicted at layer τ, from pairs chosen as in training, within the range of the data: the share of the images' "
        "variance that is predicted, below 0 where the mean image were better. By the network, and by the exact field of its pairing, "
        "the most that can be known of images that it has seen: what lies between them is left to learn, or to memorise, what the field "
        "gains over vanilla's is the pairing's. Linear assignment has no closed form. A network that predicts noise divides its error "
        "by a at the noisy layers, and a is near 0 there.",
        ["run", *(f"network\nτ = {steps - layer}" for layer in shown), *(f"field\nτ = {steps - layer}" for layer in shown)],
        [[learned.subject.name, *cells(learned.network), *cells(learned.exact)] for learned in found],
    )


def curves(found: list[Learned]) -> Figure:
    """Shares over layers."""
    figure = Figure(figsize=(5.5, 3.8))
    axes = figure.subplots()
    for colour, learned in zip(cycle(COLOURS), found, strict=False):
        layers = range(len(learned.network), 0, -1)
        axes.plot(layers, learned.network, "o-", color=colour, label=learned.subject.name, markersize=4)
        if learned.exact is not None:
            axes.plot(layers, learned.exact, "--", color=colour)
    axes.invert_xaxis()
    axes.set_xticks(range(0, found[0].subject.steps + 1, max(1, found[0].subject.steps // 5)))
    low = min(-0.1, *(float(np.quantile(learned.network, 0.1)) for learned in found))
    axes.set(xlabel="layer τ", ylabel="R² of the predicted image", ylim=(max(low, -1.0), 1.05))
    axes.legend(frameon=False, fontsize=9)
    return figure
