"""The noise of a window, over one process or several: among which images linear assignment looks.

A scope is always square: as many noises as images. Vanilla, KNN and image scaling are per image and need no scope.

Shape suffixes: B images of a process's window, N those of all processes.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, distributed

import immref
from immref import Paired, Pairing, Seed
from immref.grouping import labels_of
from immref.pairing import distances
from immref_trainers.config import Run
from immref_trainers.errors import UsageError

LARGEST_POOL = 16_384  # images; beyond it the matrix of gains takes more than a gigabyte

Labels = np.ndarray[Any, Any] | None


def check(run: Run, processes: int) -> None:
    """A UsageError where all processes together have more images than one can pair."""
    pool = run.train_batch_size * run.gradient_accumulation_steps * processes
    if run.pairing.method == "linear_assignment" and run.assignment_scope == "global" and pool > LARGEST_POOL:
        raise UsageError(
            f"assignment_scope global would pair {pool:,} images at once, {LARGEST_POOL:,} at most; "
            "set window, or a smaller train_batch_size or gradient_accumulation_steps"
        )


def pair_window(x: Tensor, labels: Labels, run: Run, step: int, accelerator: Accelerator) -> Paired:
    """Pair the window of one process in one training step; every process calls it and draws noise of its own.

    Parameters
    ----------
    x : tensor (B, ...) on the training device, not yet scaled
        As many images in every process.
    labels : integer array (B,) or None
        Needed for a pairing within='label', looked at by nothing else; a policy's are observations (B, O).
    run : Run
    step : int
        Steps finished before this one.
    accelerator : Accelerator

    Returns
    -------
    Paired
        Of the process's own images. With assignment_scope global `index` counts the noises of all processes, rank after rank.
        The gap is the largest of all that were paired together; distances are those of the standardised images where they decide.
    """
    if step < run.pairing_start:
        run = replace(run, pairing=Pairing(scale=run.pairing.scale), pairing_start=0)
    if run.pairing_standardised:
        alike = replace(run, pairing=replace(run.pairing, scale=1.0), pairing_standardised=False)
        return replace(pair_window(standardised(x), labels, alike, step, accelerator), x=immref.scale(x, run.pairing.scale))
    seed, scope = Seed(run.seed, step, accelerator.process_index), run.assignment_scope
    if run.pairing.method == "linear_assignment" and scope == "batch":
        return immref.pair(x, replace(run.pairing, within="label"), group=micro_batches(labels, len(x), run), rng=seed)
    if run.pairing.method == "linear_assignment" and scope == "global" and accelerator.num_processes > 1:
        return _pooled(x, labels, run, seed, accelerator)
    return immref.pair(x, run.pairing, group=labels if run.pairing.within == "label" else None, rng=seed)


def standardised(x: Tensor) -> Tensor:
    """Images (B, ...) of which each number has mean 0 and deviation 1 over the window, or is 0 where it never differs."""
    deviation = x.std(dim=0, correction=0)
    return (x - x.mean(dim=0)) / torch.where(deviation > 0, deviation, 1)


def micro_batches(labels: Labels, count: int, run: Run) -> np.ndarray[Any, Any]:
    """A number for every image that only images of the same micro-batch share, and of the same label where that matters."""
    number_B = np.arange(count) // run.train_batch_size
    if run.pairing.within == "batch":
        return number_B
    known, label_B = np.unique(labels_of(labels, count), return_inverse=True)
    return number_B * len(known) + label_B


def _pooled(x: Tensor, labels: Labels, run: Run, seed: Seed, accelerator: Accelerator) -> Paired:
    """The noises of all processes, permuted towards the images of all: the first process solves, each takes its own rows."""
    here, world = accelerator.process_index, accelerator.num_processes
    group = torch.from_numpy(labels_of(labels, len(x))).to(x.device) if run.pairing.within == "label" else None
    x_scaled = immref.scale(x, run.pairing.scale)
    drawn = immref.vanilla(x_scaled, rng=seed)
    pool: Tensor = accelerator.gather(drawn)
    images, groups = (None if part is None else _to_first(part, here, world) for part in (x, group))
    index_N, gap = torch.empty(len(pool), dtype=torch.int64, device=x.device), torch.empty(1, dtype=torch.float64, device=x.device)
    if images is not None:
        solved = immref.pair(images, run.pairing, noise=pool, group=groups)
        index_N, gap = solved.index, gap.fill_(solved.gap)
    index_N, gap = broadcast((index_N, gap))
    index_B = index_N[here * len(x) : (here + 1) * len(x)]
    noise = pool[index_B]
    flat, before, after = (part.flatten(1) for part in (x_scaled, drawn, noise))
    return Paired(x_scaled, noise, index_B, distances(flat, before).mean(), distances(flat, after).mean(), float(gap))


def _to_first(part: Tensor, here: int, world: int) -> Tensor | None:
    """The parts of all processes on the first; None elsewhere."""
    part = part.contiguous()
    parts = [torch.empty_like(part) for _ in range(world)] if here == 0 else None
    distributed.gather(part, parts, dst=0)
    return None if parts is None else torch.cat(parts)
