"""The contestants for KNN: plain noise as the floor, ours, brute force, and the official formulation.

Shape suffixes: B images, K candidates, D numbers per image.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

import immref
from immref import theory
from immref.assignment import to_host
from immref_trainers.bench.batches import STD
from immref_trainers.bench.measure import Way
from immref_trainers.bench.results import BRUTE, NUMPY, OFFICIAL, OURS, PLAIN

CHUNK = 2**20  # numbers of candidates that brute force holds at a time
PRECISION = 0.005  # standard error of the share of the drop that ours keeps
SHARED = 2**24  # numbers of candidates among which the choices are compared


def ways(x_BD: Any, k: int, most_numbers: int, place: str) -> dict[str, Way]:
    """The contestants on `x_BD`, a NumPy array or a tensor of the device of `place`; each returns one noise per image."""
    if isinstance(x_BD, np.ndarray):
        rng = np.random.default_rng(0)
        return {
            PLAIN: lambda: rng.standard_normal(x_BD.shape, dtype=np.float32),
            OURS: lambda: immref.knn(x_BD, k, rng=rng, backend="reference"),
        }
    found: dict[str, Way] = {PLAIN: lambda: torch.randn_like(x_BD), OURS: lambda: immref.knn(x_BD, k, backend=place.partition(" ")[0])}
    if k * x_BD.numel() <= most_numbers:
        found |= {BRUTE: lambda: brute_force(x_BD, k), OFFICIAL: lambda: official(x_BD, k)}
    return found


def official(x_BD: Tensor, k: int) -> Tensor:
    """The official formulation: all candidates at once, their differences in float16 by broadcasting, norm, argmin; 6 B·K·D bytes."""
    noise_BKD = torch.randn(len(x_BD), k, x_BD.shape[1], device=x_BD.device).half()
    return noise_BKD[torch.arange(len(x_BD), device=x_BD.device), half_choice(x_BD, noise_BKD)].float()


def half_choice(x_BD: Tensor, noise_BKD: Tensor) -> Tensor:
    """The nearest candidate by float16 distances."""
    index_B: Tensor = (noise_BKD.half() - x_BD.half()[:, None]).norm(dim=2).argmin(dim=1)
    return index_B


def brute_force(x_BD: Tensor, k: int) -> Tensor:
    """K noises an image, drawn and compared for a few images at a time."""
    rows = max(1, CHUNK // (k * x_BD.shape[1]))
    chosen_BD = torch.empty_like(x_BD)
    for start in range(0, len(x_BD), rows):
        x_RD = x_BD[start : start + rows]
        noise_RKD = torch.randn(len(x_RD), k, x_RD.shape[1], device=x_RD.device)
        chosen_BD[start : start + rows] = noise_RKD[torch.arange(len(x_RD), device=x_RD.device), float_choice(x_RD, noise_RKD)]
    return chosen_BD


def float_choice(x_BD: Tensor, noise_BKD: Tensor) -> Tensor:
    """The nearest candidate by |n|² - 2 <n, x> in float32: no differences."""
    index_B: Tensor = (vector_norm(noise_BKD, dim=2).square() - 2 * (noise_BKD @ x_BD[:, :, None])[:, :, 0]).argmin(dim=1)
    return index_B


CHOICES = {BRUTE: float_choice, OFFICIAL: half_choice}


@cache
def drop_kept(place: str, dimension: int, k: int) -> dict[str, float]:
    """For each way the share of exact KNN's drop in mean distance that it keeps; about 1 where it chooses as Algorithm 1 does.

    Ours draws no candidates that others could choose from: its drop is held against the expected one, for images of one
    length, on so many of them that the share's standard error is half a percent. The others choose among the same candidates
    as exact arithmetic in float64.
    """
    expected = theory.knn(dimension, STD**2, k)
    drop = expected.before - expected.after
    total = int((expected.after_std / (drop * PRECISION)) ** 2) + 1
    ours = {OURS: (expected.before - _mean_after(place, dimension, k, total)) / drop}
    return ours if place == NUMPY else ours | _choices_kept(dimension, k)


def _choices_kept(dimension: int, k: int) -> dict[str, float]:
    """The shares of those that choose among given candidates."""
    rng = np.random.default_rng(2)
    count = max(1, SHARED // (k * dimension))
    x_BD, noise_BKD = (
        torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for shape in ((count, dimension), (count, k, dimension))
    )
    x_BD *= STD
    exact_BK = torch.stack([vector_norm(noise_KD.double() - x_D.double(), dim=1) for x_D, noise_KD in zip(x_BD, noise_BKD, strict=True)])
    before, best = float(exact_BK.mean()), float(exact_BK.amin(dim=1).mean())
    after = {way: float(exact_BK.gather(1, choice(x_BD, noise_BKD)[:, None]).mean()) for way, choice in CHOICES.items()}
    return {way: (before - distance) / (before - best) for way, distance in after.items()}


def _mean_after(place: str, dimension: int, k: int, total: int) -> float:
    """The mean distance of about `total` images of root mean square .5 to the noise that ours chose for them."""
    backend, device = ("reference", "") if place == NUMPY else place.split(" ")
    rng, rows, sums, done = np.random.default_rng(1), max(1, CHUNK // dimension), 0.0, 0
    while done < total:
        x_BD = rng.standard_normal((rows, dimension), dtype=np.float32)
        x_BD *= STD * dimension**0.5 / np.linalg.norm(x_BD, axis=1, keepdims=True)
        x: Any = torch.from_numpy(x_BD).to(device) if device else x_BD
        noise_BD = to_host(immref.knn(x, k, rng=done, backend=backend))
        sums += float(np.linalg.norm(noise_BD - x_BD, axis=1).sum(dtype=np.float64))
        done += rows
    return sums / done
