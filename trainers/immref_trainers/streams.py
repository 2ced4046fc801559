"""Stateless random streams: every draw is a function of (seed, purpose, step, rank, micro), so nothing has to be saved.

Noise is drawn by `immref.pair` from the same `Seed`; the purposes here keep everything else apart from it and
equal across pairings, so that a comparison differs in the pairing alone.
"""

import numpy as np

from immref import Seed

TIME, ORDER, WEIGHTS, SAMPLING, PRIOR, FEATURES, AUGMENT, DROPOUT, RENOISE, LATENT, UNASKED, CAPTION, EDIT, ROLLOUT = range(
    1, 15
)  # 0 is the noise


def generator(purpose: int, seed: int, step: int = 0, rank: int = 0, micro: int = 0) -> np.random.Generator:
    """The generator for one purpose at one place of a run."""
    return Seed(seed, step, rank, micro).generator(purpose)


def torch_seed(purpose: int, seed: int, step: int = 0, rank: int = 0) -> int:
    """A 63-bit seed for torch's own generators (initial weights, dropout)."""
    return int(generator(purpose, seed, step, rank).integers(2**63))
