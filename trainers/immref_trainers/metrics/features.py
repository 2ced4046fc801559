"""Networks whose penultimate layer serves as features, fitted in seconds where no Inception can be had; the digits' classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from immref_trainers import streams
from immref_trainers.data.training import Images, Source, chunks

FloatArray = np.ndarray[Any, Any]

STEPS, BATCH, LEARNING_RATE = 1000, 128, 2e-3
DEAD = 1e-4  # of the largest standard deviation: a feature below it says nothing, and would shout if it were standardised


@dataclass(frozen=True)
class Features:
    """What a fitted network sees.

    Attributes
    ----------
    name : of the features, for captions
    quality : a sentence that tells how well the network does what it was fitted for
    see : images (N, C, H, W) → features (N, F) float64, standardised by the training images
    label : images → the labels (N,) that it reads, or None
    """

    name: str
    quality: str
    see: Callable[[FloatArray], FloatArray]
    label: Callable[[FloatArray], FloatArray] | None


def fit(images: Images, seed: int) -> Features:
    """A small digit classifier, fitted on the training digits."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.torch_seed(streams.FEATURES, seed))
        body, head = _layers(*images.train.shape[:2]), nn.Linear(32, images.classes)
    network = nn.Sequential(body, head)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for step in range(STEPS):
        rows = streams.generator(streams.FEATURES, seed, step + 1).integers(len(images.train), size=BATCH)
        x, labels = torch.from_numpy(images.train.images(rows)), torch.as_tensor(images.train.labels(rows))
        loss = nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    label = reader(nn.Sequential(body, head))
    accuracy = share(label, images.held_out)
    quality = f"the classifier reads {accuracy:.1%} of {len(images.held_out)} held-out digits rightly"
    return Features("32 standardised features of a small digit CNN", quality, standardised(body, images.train), label)


def _layers(channels: int, side: int) -> nn.Sequential:
    """Three 3×3 convolutions, the side halved by two of them, then 32 numbers."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 32),
        nn.ReLU(),
    )


def outputs(network: nn.Module, samples: FloatArray) -> FloatArray:
    """What `network` makes of images, some at a time."""
    with torch.no_grad():
        return np.concatenate([network(part).numpy() for part in torch.from_numpy(np.asarray(samples, dtype=np.float32)).split(500)])


def standardised(body: nn.Module, source: Source, most: int = 50_000) -> Callable[[FloatArray], FloatArray]:
    """`body`'s features in float64 by their mean and standard deviation over the images of `source`; dead ones become 0."""
    seen = np.concatenate([outputs(body, source.images(index)) for index in chunks(source, most)]).astype(np.float64)
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    unit = np.where(std > DEAD * std.max(), std + 1e-6, np.inf)
    return lambda samples: (outputs(body, samples).astype(np.float64) - mean) / unit


def reader(network: nn.Module) -> Callable[[FloatArray], FloatArray]:
    """The label with the largest output."""
    return lambda samples: outputs(network, samples).argmax(axis=1)


def share(label: Callable[[FloatArray], FloatArray], source: Source) -> float:
    """Share of the images of `source` whose label is read rightly."""
    hits = [label(source.images(index)) == source.labels(index) for index in chunks(source, 10_000)]
    return float(np.mean(np.concatenate(hits)))
