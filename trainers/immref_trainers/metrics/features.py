"""A small digit classifier whose penultimate layer serves as features, fitted in seconds where no Inception can be had."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from immref_trainers import streams
from immref_trainers.data.digits import Images

FloatArray = np.ndarray[Any, Any]
Features = Callable[[FloatArray], FloatArray]

NAME = "32 standardised features of a small digit CNN"
STEPS, BATCH, LEARNING_RATE = 1000, 128, 2e-3


def fit(images: Images, seed: int) -> tuple[Features, float]:
    """Fit the classifier on the training digits; return its standardised features and its accuracy on the held-out ones."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.torch_seed(streams.FEATURES, seed))
        body, head = _layers(images.train.shape[1]), nn.Linear(32, 10)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    x, labels = torch.from_numpy(images.train), torch.from_numpy(images.train_labels)
    for step in range(STEPS):
        rows = torch.from_numpy(streams.generator(streams.FEATURES, seed, step + 1).integers(len(x), size=BATCH))
        loss = nn.functional.cross_entropy(network(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def raw(samples: FloatArray) -> FloatArray:
        with torch.no_grad():
            return np.asarray(body(torch.from_numpy(np.asarray(samples, dtype=np.float32))), dtype=np.float64)

    seen = raw(images.train)
    mean, std = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    guessed = head(torch.from_numpy(raw(images.held_out).astype(np.float32))).argmax(dim=1).numpy()
    return lambda samples: (raw(samples) - mean) / std, float(np.mean(guessed == images.held_out_labels))


def _layers(channels: int) -> nn.Sequential:
    """Three 3×3 convolutions, 8×8 → 4×4 → 2×2, then 32 numbers."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
    )
