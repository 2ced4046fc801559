"""The picture of `immref bench`: time against batch, a panel for KNN and one for linear assignment."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from immref_trainers.bench.results import BRUTE, EXACT, LAP, NEAR, OFFICIAL, OURS, PLAIN, PRODUCT, SCIPY, Record, Row
from immref_trainers.bench.settings import LATENTS, PHOTOS, PIXELS, Case
from immref_trainers.bench.tables import PAPER_ASSIGNMENT, PAPER_BATCHES, PAPER_KNN
from immref_trainers.figures import COLOURS, STYLE

GREY, BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = COLOURS
KNN_COLOURS = {PLAIN: GREY, OURS: BLUE, BRUTE: YELLOW, OFFICIAL: ORANGE}
ASSIGNMENT_COLOURS = {PRODUCT: GREY, NEAR: GREEN, LAP: BLUE, EXACT: SKY, SCIPY: PINK, OFFICIAL: ORANGE}
PAPER = "the paper, on a GPU (A5000)"

LABELS = {PRODUCT: "X Nᵀ, the product alone", SCIPY: "SciPy without an auction"}

Curve = list[tuple[Case, dict[str, Row]]]


def draw(record: Record, path: Path) -> None:
    """Write the PNG: a row of two panels for each device."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 6.2 * len(record.devices)))
        for place, (left, right) in zip(record.devices, figure.subplots(len(record.devices), 2, squeeze=False), strict=True):
            knn(left, record, place)
            assignment(right, record, place)
        figure.tight_layout(w_pad=3)
        figure.savefig(path, bbox_inches="tight")


def knn(axes: Axes, record: Record, place: str) -> None:
    """KNN at both of the paper's dimensions; the line style tells k and D."""
    for dimension, k, style in ((PIXELS, 8, "o-"), (LATENTS, 64, "s--")):
        curve = list(record.each("knn", place, dimension=dimension, k=k))
        for way, colour in KNN_COLOURS.items():
            _plot(axes, curve, way, style, colour, f"{way}, k {k}" if way != PLAIN else f"{way}, D {dimension}")
    axes.plot(PAPER_BATCHES, PAPER_KNN, "x:", color="black", label=f"{PAPER}, k not stated")
    _finish(axes, f"KNN on {place}\n(solid: D {PIXELS}, k 8; dashed: D {LATENTS}, k 64)")


def assignment(axes: Axes, record: Record, place: str) -> None:
    """Whole calls on photographs under the paper's cost."""
    curve = list(record.each("linear_assignment", place, cost="l2", data=PHOTOS))
    for way, colour in ASSIGNMENT_COLOURS.items():
        ours = way in (LAP, EXACT, NEAR)
        _plot(axes, curve, way, "o-" if ours else "s--", colour, f"immref, {way}" if ours else LABELS.get(way, way))
    axes.plot(PAPER_BATCHES, PAPER_ASSIGNMENT, "x:", color="black", label=PAPER)
    _finish(axes, f"Linear assignment on {place}, whole call\n(photographs, D {PIXELS}, cost l2)")


def _plot(axes: Axes, curve: Curve, way: str, style: str, colour: str, label: str) -> None:
    points = [(case.batch, rows[way].ms) for case, rows in curve if way in rows]
    if points:
        axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)


def _finish(axes: Axes, title: str) -> None:
    """Scales, a tick for each batch that is drawn, and the legend below."""
    batches = sorted({int(batch) for drawn in axes.lines for batch in np.asarray(drawn.get_xdata())})
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="ms (lower is better)", title=title)
    axes.set_xticks(batches, list(map(str, batches)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
