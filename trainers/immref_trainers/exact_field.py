"""The training-free comparison: samples of the exact field under each pairing, made with NumPy and SciPy alone."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from immref import KNN, ImageScaling, Pairing, Vanilla, schedules
from immref.diffusion import ddim_step
from immref.exact import ExactField
from immref.miscibility import curvature
from immref_trainers import streams
from immref_trainers.config import LADDER, Consistency, Run
from immref_trainers.data.training import Images
from immref_trainers.metrics.judge import Judge
from immref_trainers.networks.settings import TextUNet
from immref_trainers.results import ExactRow
from immref_trainers.samplers import ddim, priors

FloatArray = np.ndarray[Any, Any]

PAIRINGS = (Vanilla(), KNN(k=4), KNN(k=8), KNN(k=64), ImageScaling(2.0))  # linear assignment has no closed form
STEPS = (1, 2, 4, 8, 16)
POINTS = 600
MOST = 1_000_000  # numbers in the images, beyond which the field takes too long


def fits(images: Images, run: Run) -> bool:
    """Whether the images are few and small enough for a field that weighs every one at every step, in the space of the network."""
    return not isinstance(run.network, TextUNet) and len(images.train) * math.prod(images.train.shape) <= MOST


def table(images: Images, judge: Judge, run: Run, points: int = POINTS, pairings: tuple[Pairing, ...] = PAIRINGS) -> Iterator[ExactRow]:
    """One row per pairing: Fréchet distance by steps from N(0, I), at the last count also from matched noise.

    The steps are those of the run's sampler, Euler's for consistency.

    The exact denoiser is one for every objective, and its images need no clipping: they are means of data.
    """
    least, most = run.sampler_range() if run.sampler.method == "ddim" else (1, math.inf)
    counts = [steps for steps in STEPS if least <= steps <= most]
    start = streams.generator(streams.SAMPLING, 0).standard_normal((points, *images.train.shape))
    x_ND = flat(images)
    for pairing in pairings:
        field = ExactField(x_ND * pairing.scale, pairing.k)
        matched = priors.paired_noise(images.train, pairing, points, points, 0, place=lambda batch: batch)[0]
        paths = {steps: follow(field, start.reshape(points, -1), steps, run) for steps in counts}
        from_matched = follow(field, matched.reshape(points, -1), counts[-1], run)
        # one field, one curvature: by Euler's equal steps, whichever steps the samples were made with
        bent = paths[counts[-1]] if run.sampler.method != "ddim" else field.sample(start.reshape(points, -1), counts[-1])

        def distance(path: list[FloatArray], scale: float = pairing.scale) -> float:
            return judge.score((path[-1] / scale).reshape(start.shape)).fd

        yield ExactRow(
            pairing,
            fd={steps: distance(path) for steps, path in paths.items()},
            fd_matched={counts[-1]: distance(from_matched)},
            curvature=curvature(np.stack(bent)),
        )


def follow(field: ExactField, noise_MD: FloatArray, steps: int, run: Run) -> list[FloatArray]:
    """The states (M, D) of the field's samples at all steps + 1 times of the run's sampler, Euler's for consistency; image scaling kept."""
    if run.sampler.method != "ddim":
        return field.sample(noise_MD, steps)
    states = [np.asarray(noise_MD, dtype=np.float64)]
    for here, there in pairwise(ddim.path(run, steps)[1]):
        states.append(ddim_step("sample", field.denoise(states[-1], *here), states[-1], *here, *there))
    return states


def ends(images: Images, run: Run, noise_MD: FloatArray) -> FloatArray:
    """Images (M, D) to which the exact field of a consistency run leads from sigma_max times noise; image scaling undone.

    A perfect network's one step, by Heun's method over the sampler's noise levels: from 600 noises on the digits 0.5 % end in
    another image than with 15 times as many levels.
    """
    assert isinstance(run.objective, Consistency)
    pairing, x_ND = run.pairing, flat(images)
    field = ExactField(x_ND * pairing.scale, pairing.k)
    sigma_N = schedules.karras_sigmas(LADDER, run.objective.sigma_min, run.objective.sigma_max)[::-1]
    z_MD: FloatArray = sigma_N[0] * np.asarray(noise_MD, dtype=np.float64)
    for here, there in pairwise(sigma_N):
        slope = (z_MD - field.denoise(z_MD, 1.0, here)) / here
        guess = z_MD + (there - here) * slope
        slope_there = (guess - field.denoise(guess, 1.0, there)) / there
        z_MD = z_MD + (there - here) * (slope + slope_there) / 2
    return z_MD / pairing.scale


def flat(images: Images) -> FloatArray:
    """The training images (N, D)."""
    return images.train.images(np.arange(len(images.train))).reshape(len(images.train), -1)
