"""Improved Immiscible Diffusion: pair each image of a training batch with a noise that lies nearer to it.

>>> import numpy as np, immref
>>> latents = np.zeros((4, 4, 32, 32), dtype=np.float32)
>>> noise = immref.knn(latents, k=8, rng=0)  # instead of a plain normal draw
>>> noise.shape
(4, 4, 32, 32)
"""

from immref.api import knn, linear_assignment, pair, vanilla
from immref.dispatch import BackendError
from immref.noise import Seed
from immref.pairing import scale
from immref.records import KNN, ImageScaling, LinearAssignment, Paired, Pairing, Vanilla

__version__ = "0.1.0"
__all__ = [
    "KNN",
    "BackendError",
    "ImageScaling",
    "LinearAssignment",
    "Paired",
    "Pairing",
    "Seed",
    "Vanilla",
    "knn",
    "linear_assignment",
    "pair",
    "scale",
    "vanilla",
]
