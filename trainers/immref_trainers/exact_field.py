"""The training-free comparison: samples of the exact field under each pairing, made with NumPy and SciPy alone."""

from collections.abc import Iterator

import numpy as np

from immref import KNN, ImageScaling, Vanilla
from immref.exact import ExactField
from immref.miscibility import curvature
from immref_trainers import streams
from immref_trainers.data.digits import Images
from immref_trainers.metrics.judge import Judge
from immref_trainers.results import ExactRow
from immref_trainers.samplers import priors

PAIRINGS = (Vanilla(), KNN(k=4), KNN(k=8), KNN(k=64), ImageScaling(2.0))  # linear assignment has no closed form
STEPS = (1, 2, 4, 8, 16)
POINTS = 600


def table(images: Images, judge: Judge, points: int = POINTS) -> Iterator[ExactRow]:
    """One row per pairing: Fréchet distance by Euler steps from N(0, I), at the last count also from matched noise."""
    start = streams.generator(streams.SAMPLING, 0).standard_normal((points, *images.train.shape[1:]))
    for pairing in PAIRINGS:
        field = ExactField(images.train.reshape(len(images.train), -1) * pairing.scale, pairing.k)
        matched = priors.paired_noise(images.train, images.train_labels, pairing, points, points, 0, lambda batch: batch)
        paths = {steps: field.sample(start.reshape(points, -1), steps) for steps in STEPS}
        from_matched = field.sample(matched.reshape(points, -1), STEPS[-1])

        def distance(path: list[np.ndarray], scale: float = pairing.scale) -> float:
            return judge.score((path[-1] / scale).reshape(start.shape)).fd

        yield ExactRow(
            pairing,
            fd={steps: distance(path) for steps, path in paths.items()},
            fd_matched={STEPS[-1]: distance(from_matched)},
            curvature=curvature(np.stack(paths[STEPS[-1]])),
        )
