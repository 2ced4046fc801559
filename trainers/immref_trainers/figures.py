"""The pictures of a comparison, as PNG."""

from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from immref import Pairing
from immref_trainers.data.training import Images
from immref_trainers.results import Comparison, ExactRow, by_pairing, counted, spread
from immref_trainers.tables import sampler_steps

FloatArray = np.ndarray[Any, Any]
Pictures = dict[Pairing, dict[int, FloatArray]]

COLOURS = ["#555555", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]  # Okabe and Ito: safe for colour-blind eyes
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "savefig.dpi": 130,
}
GRID_ROWS, GRID_COLUMNS = 2, 24


def draw(comparison: Comparison, images: Images, pictures: Pictures, folder: Path) -> dict[str, Path]:
    """Write every figure into `folder`; return its path by caption."""
    with mpl.rc_context(STYLE):
        figures = {
            "Fréchet distance while training, sampled from N(0, I). Lower is better; the band spans the seeds.": (
                "curves",
                curves(comparison),
            ),
            "Samples at the end of training. Every row starts from the same noise.": ("samples", samples(comparison, images, pictures)),
        }
        if comparison.exact:
            figures["The exact field: distance by the sampler's steps, with no network and no training."] = ("exact", exact(comparison))
        paths = {}
        for caption, (name, figure) in figures.items():
            paths[caption] = folder / f"{name}.png"
            figure.savefig(paths[caption], bbox_inches="tight")
    return paths


def curves(comparison: Comparison) -> Figure:
    """Fréchet distance over training steps, a panel per sampler step count."""
    counts = sampler_steps(comparison)
    figure = Figure(figsize=(5 * len(counts), 3.8))
    for axes, count in zip(np.atleast_1d(figure.subplots(1, len(counts))), counts, strict=True):
        for colour, (pairing, outcomes) in zip(cycle(COLOURS), by_pairing(comparison).items(), strict=False):
            steps = [point.step for point in outcomes[0].curve]
            values = np.array([[point.scores[count].fd for point in outcome.curve] for outcome in outcomes])
            axes.plot(steps, values.mean(axis=0), "o-", color=colour, label=str(pairing), markersize=4)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        _floor(axes, [score.fd for score in comparison.floor])
        axes.set(xlabel="training step", yscale="log", title=f"sampled in {counted(count)}")
        plain_ticks(axes)
    figure.axes[0].set_ylabel("Fréchet distance")
    figure.axes[-1].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def samples(comparison: Comparison, images: Images, pictures: Pictures) -> Figure:
    """A strip of samples per pairing and sampler step count, real digits on top."""
    real = images.train.images(np.arange(min(GRID_ROWS * GRID_COLUMNS, len(images.train))))
    shown = {"real images": real}
    shown |= {
        f"{pairing}\n{counted(count)}": by_count[count] for count in sampler_steps(comparison) for pairing, by_count in pictures.items()
    }
    return strips({name: images.pixels(batch[: GRID_ROWS * GRID_COLUMNS]) for name, batch in shown.items()}, GRID_COLUMNS, 0.95)


def strips(shown: dict[str, FloatArray], columns: int, height: float) -> Figure:
    """Images of bytes (N, C, H, W) under each name, in rows of `columns`; `height` of a strip in inches."""
    figure = Figure(figsize=(11, height * len(shown)))
    for axes, (name, pixels) in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown.items(), strict=True):
        axes.imshow(tile(pixels, columns), interpolation="nearest")
        bare(axes)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.tight_layout(h_pad=0.4)
    return figure


def bare(axes: Axes) -> None:
    """No ticks, grid or frame: for pictures and maps whose axes mean nothing."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def save(pixels_NCHW: FloatArray, folder: Path) -> None:
    """Images of bytes, C = 1 or 3, as 00000.png and so on."""
    for number, image in enumerate(pixels_NCHW.transpose(0, 2, 3, 1)):
        Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(folder / f"{number:05}.png")


def tile(pixels_NCHW: FloatArray, columns: int) -> FloatArray:
    """Images of bytes, C = 1 or 3, laid out as one RGB picture (rows, width, 3) with a white margin of one pixel."""
    padded = np.pad(pixels_NCHW.transpose(0, 2, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    padded = np.repeat(padded, 3 // padded.shape[-1], axis=-1)
    rows = -(-len(padded) // columns)
    padded = np.concatenate([padded, np.full((rows * columns - len(padded), *padded.shape[1:]), 255, dtype=np.uint8)])
    height, width = padded.shape[1:3]
    return padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)


def exact(comparison: Comparison) -> Figure:
    """Distance over sampler steps for the exact field."""
    figure = Figure(figsize=(5.5, 3.8))
    axes = figure.subplots()
    palette = cycle(COLOURS)
    colours = dict(zip(by_pairing(comparison), palette, strict=False))
    exact_lines(axes, comparison.exact, {row.pairing: colours.get(row.pairing) or next(palette) for row in comparison.exact})
    axes.plot([], [], "D", color="black", markerfacecolor="none", label="from noise paired with training images")
    _floor(axes, [score.fd for score in comparison.floor_exact])
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def exact_lines(axes: Axes, rows: list[ExactRow], colours: dict[Pairing, str]) -> None:
    """A line for each pairing's exact field, and a diamond for what it reaches from matched noise."""
    for row in rows:
        axes.plot(list(row.fd), list(row.fd.values()), "o-", color=colours[row.pairing], label=str(row.pairing), markersize=4)
        axes.plot(
            list(row.fd_matched), list(row.fd_matched.values()), "D", color=colours[row.pairing], markerfacecolor="none", markersize=7
        )
    axes.set(xscale="log", yscale="log", xlabel="sampler steps", ylabel="Fréchet distance")
    axes.set_xticks(list(rows[0].fd), [str(count) for count in rows[0].fd])
    axes.minorticks_off()
    plain_ticks(axes)


def _floor(axes: Axes, floor: list[float]) -> None:
    axes.axhline(spread(floor)[0], color="black", linestyle=":", linewidth=1, label="training images drawn again")


def plain_ticks(axes: Axes) -> None:
    """Numbers as they are on a logarithmic axis, with 2 and 5 between the powers of ten."""
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
