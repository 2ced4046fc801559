"""`immref advise`: what pairing would do to given data and what it would cost, before any training."""

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import immref
from immref import KNN, LinearAssignment, Pairing, Seed, Vanilla, dispatch, theory
from immref._checks import MOST_CANDIDATES, check_int
from immref.miscibility import Skew, class_skew, distance_drop
from immref_trainers.data import folder
from immref_trainers.data.folder import Collection

DOSE = (0.011, 0.023)  # distance drops at the paper's best k (Table 4): 1.10 to 2.32 %
DIGITS_STD = 0.5
CHUNK = 256  # images paired at a time where nothing is timed
ROUNDS = 5  # interleaved; the fastest counts
SKEW_ROWS = 8192  # noises that the classifier sees, half of them to learn from
WIDTH = 98  # columns of text
SHOWN = 5  # unreadable files named on the screen; the JSON has all
LEAST_ROWS = 16  # of a label, else it is left out


@dataclass(frozen=True)
class Settings:
    """Which data, and what to try."""

    data: str = "digits"
    """digits, photos, a folder of images, or a file .npy, .npz or .safetensors (keys image and label)."""
    k: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    """Candidates of KNN to try."""
    batch_size: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """Batches to try for linear assignment."""
    train_batch_size: int = 256
    """The batch of your training step: --step-ms and the costs of KNN are for it."""
    step_ms: float | None = None
    """Milliseconds of one training step; adds the share that pairing takes."""
    pixel_std: float | None = None
    """Shift the data by their mean and scale them to this standard deviation, as training would."""
    image_size: int | None = None
    """Scale and cut the images of a folder to this square."""
    sample: int = 4096
    """Images looked at, drawn at random; fewer where they are large."""
    backend: str | None = None
    """auto, reference, torch, cupy or an installed plugin; wins over IMMREF_BACKEND."""
    json: Path | None = None
    """Write the numbers to this file."""

    def __post_init__(self) -> None:
        for name, low in {"k": 2, "batch_size": 2}.items():
            values = getattr(self, name)
            if not values or min(values) < low:
                raise ValueError(f"{name} must be one or more numbers ≥ {low}, got {values}")
        for k in self.k:
            check_int(k, "k", 2, MOST_CANDIDATES)
        for name, low in {"train_batch_size": 2, "sample": 2, "image_size": 1}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be ≥ {low}, got {value}")
        for name in ("step_ms", "pixel_std"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be finite and > 0, got {value}")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ValueError(f"json must be a file in a folder that exists, got {self.json}")


@dataclass(frozen=True)
class Line:
    """One pairing on these data: drops are relative changes of the mean distance, ≤ 0.

    For KNN the prediction is for images of the data's mean square; for assignment it is the bound that images of
    independent directions nearly reach.
    """

    pairing: str
    size: int
    """k, or the batch."""
    predicted_drop: float
    unit_std_drop: float
    measured_drop: float
    mean_square: float
    pull: float | None
    kl_excess: float
    ms: float
    times_plain: float
    share: float | None


@dataclass(frozen=True)
class Told:
    """How well noise tells the label under one pairing."""

    pairing: str
    skew: Skew


@dataclass(frozen=True)
class Summary:
    """The data in numbers."""

    data: str
    shape: tuple[int, ...]
    total: int
    dimension: int
    mean: float
    std: float
    mean_square: float
    labels: int
    scaling: str
    unreadable: tuple[str, ...]


def load(settings: Settings) -> Collection:
    """The data as a model would see them; a ValueError says what is wrong with them."""
    if settings.data in ("digits", "photos") and settings.image_size is not None:
        raise ValueError(f"image_size is for folders of images, not for {settings.data}")
    if settings.data == "digits":
        from immref_trainers.data import digits
        from immref_trainers.data.settings import Digits

        found = digits.load(Digits(held_out=2, pixel_std=DIGITS_STD))
        every = [(part.images(np.arange(len(part))), part.labels(np.arange(len(part)))) for part in (found.train, found.held_out)]
        x, label = (np.concatenate(parts) for parts in zip(*every, strict=True))
        collection = Collection(x, label, len(x), (), f"pixel standard deviation {DIGITS_STD:g}")
    elif settings.data == "photos":
        from immref_trainers.data import photos

        x = photos.patches(np.random.default_rng(0), settings.sample)
        collection = Collection(x, None, len(x), (), "from 0 … 255 to [-1, 1]")
    else:
        collection = folder.load(Path(settings.data), settings.sample, settings.image_size)
    looked_at = min(len(collection.x), settings.sample)
    if looked_at < min(settings.batch_size):
        raise ValueError(f"data, and sample, must be at least {min(settings.batch_size)} images, the smallest batch_size, got {looked_at}")
    x, labels = collection.x[: settings.sample], None if collection.label is None else collection.label[: settings.sample]
    scaling = collection.scaling
    if settings.pixel_std is not None:
        spread = float(x.std(dtype=np.float64))
        if spread == 0:
            raise ValueError("data must vary, or pixel_std be left out; all numbers are equal")
        x = ((x - x.mean(dtype=np.float64)) * (settings.pixel_std / spread)).astype(np.float32)
        scaling = f"standard deviation {settings.pixel_std:g}"
    return Collection(x, labels, collection.total, collection.unreadable, scaling)


def summarise(images: Collection, settings: Settings) -> Summary:
    """Sizes and moments."""
    x = images.x
    mean, std = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
    labels = 0 if images.label is None else len(np.unique(images.label))
    dimension = int(np.prod(x.shape[1:]))
    return Summary(settings.data, x.shape, images.total, dimension, mean, std, mean**2 + std**2, labels, images.scaling, images.unreadable)


def knn_lines(images: Collection, summary: Summary, settings: Settings) -> Iterator[Line]:
    """KNN for each k: predicted, measured on the sample, and timed against vanilla noise."""
    batch = np.resize(images.x, (settings.train_batch_size, *images.x.shape[1:]))
    ways: dict[int, Callable[[], Any]] = {0: partial(immref.vanilla, batch, rng=0, backend=settings.backend)}
    ways |= {k: partial(immref.knn, batch, k, rng=0, backend=settings.backend) for k in settings.k}
    cost = interleaved(ways)
    for k in settings.k:
        predicted = theory.knn(summary.dimension, summary.mean_square, k)
        yield Line(
            str(KNN(k)),
            k,
            predicted.distance_drop,
            theory.knn(summary.dimension, 1.0, k).distance_drop,
            measured_drop(images, KNN(k), CHUNK, len(images.x), settings.backend),
            predicted.mean_square,
            predicted.pull,
            predicted.kl_excess,
            cost[k],
            cost[k] / cost[0],
            cost[k] / settings.step_ms if settings.step_ms else None,
        )


def assignment_lines(images: Collection, summary: Summary, settings: Settings) -> Iterator[Line]:
    """Linear assignment for each batch that the data can fill."""
    for size in settings.batch_size:
        if size > len(images.x):
            continue
        batch = images.x[:size]
        ways: dict[int, Callable[[], Any]] = {
            0: partial(immref.vanilla, batch, rng=0, backend=settings.backend),
            1: partial(immref.linear_assignment, batch, rng=0, backend=settings.backend),
        }
        cost = interleaved(ways, rounds=1 if size > 512 else ROUNDS)
        step_ms = settings.step_ms * size / settings.train_batch_size if settings.step_ms else None
        yield Line(
            f"{LinearAssignment()}",
            size,
            theory.assignment_drop(summary.dimension, summary.mean_square, size),
            theory.assignment_drop(summary.dimension, 1.0, size),
            measured_drop(images, LinearAssignment(), size, max(size, 1024), settings.backend),
            1.0,  # the noises as a set stay what they were
            None,
            0.0,
            cost[1],
            cost[1] / cost[0],
            cost[1] / step_ms if step_ms else None,
        )


def measured_drop(images: Collection, pairing: Pairing, size: int, rows: int, backend: str | None) -> float:
    """Relative change of the mean distance over whole batches of `size`, about `rows` images."""
    size = min(size, len(images.x))
    before = after = 0.0
    for step in range(min(rows, len(images.x)) // size):
        paired = immref.pair(images.x[step * size : (step + 1) * size], pairing, rng=Seed(0, step=step), backend=backend)
        before, after = before + float(paired.before), after + float(paired.after)
    return distance_drop(before, after)


def told(images: Collection, pairings: list[Pairing], settings: Settings) -> list[Told]:
    """The class skew of each pairing's noise, in batches of the training step; nothing where labels are too rare to tell."""
    if images.label is None:
        return []
    size = min(settings.train_batch_size, len(images.x))
    rows = min(SKEW_ROWS, max(size, folder.NUMBERS // images.x[0].size))
    rng = np.random.default_rng(0)
    order = [rng.permutation(len(images.x))[:size] for _ in range(-(-rows // size))]
    label = images.label[np.concatenate(order)]
    names, count = np.unique(label, return_counts=True)
    keep = np.isin(label, names[count >= LEAST_ROWS])
    if len(np.unique(label[keep])) < 2:
        return []
    found = []
    numbers = np.unique(images.label, return_inverse=True)[1]
    for pairing in pairings:
        noise = [
            immref.pair(images.x[batch], pairing, group=numbers[batch], rng=Seed(1, step=step), backend=settings.backend).noise
            for step, batch in enumerate(order)
        ]
        found.append(Told(str(pairing), class_skew(np.concatenate(noise)[keep], label[keep])))
    return found


def interleaved(ways: dict[int, Callable[[], Any]], rounds: int = ROUNDS) -> dict[int, float]:
    """Least milliseconds of each way, one call of each per round, so that a busy moment meets them all."""
    seconds: dict[int, list[float]] = {name: [] for name in ways}
    for name in ways if rounds > 1 else (0,):
        ways[name]()
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: 1e3 * min(times) for name, times in seconds.items()}


def advise(images: Collection, settings: Settings) -> None:
    """Measure and print as the numbers come, then say what follows from them."""
    choice = dispatch.choose(images.x, settings.backend)
    summary = summarise(images, settings)
    print(f"{header(summary)}\nbackend {choice}\n")
    share = "" if settings.step_ms is None else f"{'of a step':>11}"
    costs = f"{'ms':>9}{'× plain':>9}{share}"
    print(f"KNN, the nearest of k noises; the cost of a batch of {settings.train_batch_size}, drawing included")
    print(f"{'k':>6}{'predicted':>11}{'if std 1':>10}{'measured':>10}{'E n²':>8}{'pull':>7}{'KL':>8}{costs}")
    knn, assignment = [], []
    for line in knn_lines(images, summary, settings):
        knn.append(line)
        print(f"{line.size:6}{drops(line)}{line.mean_square:8.3f}{line.pull:7.2f}{line.kl_excess:8.3f}{cost(line)}")
    print("\nLinear assignment; bound: every image had the noise of the batch that suits it best")
    print(f"{'batch':>6}{'bound':>11}{'if std 1':>10}{'measured':>10}{'':23}{costs}")
    for line in assignment_lines(images, summary, settings):
        assignment.append(line)
        print(f"{line.size:6}{drops(line)}{'':23}{cost(line)}")
    if left_out := [size for size in settings.batch_size if size > len(images.x)]:
        print(f"  left out, larger than the {len(images.x):,} images looked at: {', '.join(map(str, left_out))}")
    pairings = [Vanilla(), KNN(suited(knn).size), LinearAssignment(), LinearAssignment(within="label")]
    skews = told(images, pairings, settings)
    if skews:
        print(f"\nthe label told from the noise alone (linear, unseen noises; chance {skews[0].skew.chance:.1%}):")
    for one in skews:
        print(f"  {one.pairing:36}{one.skew.accuracy:7.1%} ± {one.skew.standard_error:.1%}")
    reasons = recommendation(summary, knn, min(assignment, key=lambda line: abs(line.size - settings.train_batch_size)), skews)
    print()
    for reason in reasons:
        print(textwrap.fill(reason, WIDTH, initial_indent="- ", subsequent_indent="  "))
    if settings.json is not None:
        record = {"data": asdict(summary), "backend": str(choice), "knn": [asdict(line) for line in knn]}
        record |= {"assignment": [asdict(line) for line in assignment], "class_skew": [asdict(one) for one in skews]}
        settings.json.write_text(json.dumps(record | {"recommendation": reasons}, indent=2) + "\n", encoding="utf-8")


def header(summary: Summary) -> str:
    """The data in a few lines."""
    text = (
        f"{summary.data}: {summary.shape[0]:,} of {summary.total:,} images, shape {'×'.join(map(str, summary.shape[1:]))}, "
        f"D = {summary.dimension:,} numbers; {summary.scaling}; mean {summary.mean:.3f}, standard deviation {summary.std:.3f}, "
        f"mean square m = {summary.mean_square:.3f}"
    )
    lines = textwrap.wrap(text + (f"; {summary.labels} labels" if summary.labels else ""), WIDTH)
    if summary.unreadable:
        lines += [f"{len(summary.unreadable)} files could not be read:", *(f"  {name}" for name in summary.unreadable[:SHOWN])]
        lines += ["  …"] if len(summary.unreadable) > SHOWN else []
    return "\n".join(lines)


def drops(line: Line) -> str:
    """Predicted, at unit standard deviation, measured."""
    return f"{line.predicted_drop:11.2%}{line.unit_std_drop:10.2%}{line.measured_drop:10.2%}"


def cost(line: Line) -> str:
    """Milliseconds, in plain draws, and of a step."""
    return f"{line.ms:9.2f}{line.times_plain:9.2f}" + ("" if line.share is None else f"{line.share:11.2%}")


def suited(knn: list[Line]) -> Line:
    """The k whose measured drop lies nearest to the middle of the paper's doses."""
    return min(knn, key=lambda line: abs(-line.measured_drop - sum(DOSE) / 2))


def recommendation(summary: Summary, knn: list[Line], assignment: Line, skews: list[Told]) -> list[str]:
    """What follows, with its reasons and what is not known."""
    best, fits = suited(knn), [line.size for line in knn if DOSE[0] <= -line.measured_drop <= DOSE[1]]
    compared = "even this one is stronger" if -best.measured_drop > DOSE[1] else "even this one is weaker"
    if fits:
        compared = f"k = {', '.join(map(str, fits))} {'has' if len(fits) == 1 else 'have'} that here"
    reasons = [
        f"KNN: k={best.size}, distance drop {best.measured_drop:.2%}. The paper's best k dropped it by {DOSE[0]:.1%} to {DOSE[1]:.1%}; "
        f"{compared}. The chosen noise is short (E n² {best.mean_square:.3f}) and pulled by {best.pull:.2f} towards its image. On the "
        "small images of this project KNN helped samplers of few steps; at many steps from N(0, I) it was no better than vanilla, "
        "and worse the larger k. Start sampling from the noise that training saw where you can (the priors of immref compare)."
    ]
    assigned = (
        f"Linear assignment, batch {assignment.size}: distance drop {assignment.measured_drop:.2%}, the noises as a set stay N(0, I). "
        "Without conditions the first choice for flow matching: immref compare finds it better at few and at many sampler steps."
    )
    if not summary.labels:
        return [assigned, *reasons, *normalisation(summary)]
    reasons.append(f"{assigned} For a model that samples by label, not across labels.")
    if skews:
        across, within = skews[2].skew, skews[3].skew
        chance = f"(chance {across.chance:.1%} ± {across.standard_error:.1%})"
        seen = f"Here it tells it in {across.accuracy:.1%} of the cases {chance}"
        if not across.present:
            seen = f"Here that cannot be seen in the noises looked at, {across.accuracy:.1%} {chance}"
        reasons[-1] = reasons[-1].removesuffix(".") + (
            f": the noise then tells the label, and a sampler that starts from N(0, I) does not. {seen}; assigned within labels "
            f"(within='label', group=labels) in {within.accuracy:.1%}, under KNN k={best.size} in {skews[1].skew.accuracy:.1%}."
        )
    return reasons + normalisation(summary)


def normalisation(summary: Summary) -> list[str]:
    """A reminder that the dose depends on it."""
    if abs(summary.mean_square - 1) <= 0.1:
        return []
    return [
        f"Normalisation is part of the dose: m = {summary.mean_square:.2f} here; the columns 'if std 1' tell what unit variance would "
        "give (--pixel-std 1 measures it)."
    ]
