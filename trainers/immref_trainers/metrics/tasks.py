"""Features for any images: a small CNN fitted on three tasks that it sets itself.

Which label an image has (for photographs the region it was cut from), by which quarter turn it was rotated, and how it was
corrupted. The last one lets the features tell real images from blurred, noisy and Gaussian ones, to which labels are blind.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from immref_trainers import streams
from immref_trainers.data.training import Images
from immref_trainers.metrics import features
from immref_trainers.metrics.features import Features

FloatArray = np.ndarray[Any, Any]

STEPS, BATCH, LEARNING_RATE = 1000, 96, 2e-3
WIDTH = 48  # features
SIDE = 64  # to which larger images are shrunk
TURNS = 4
NAME = f"{WIDTH} standardised features of a small CNN fitted on label, rotation and corruption"


class Shrunk(nn.Module):
    """Images whose shorter side is at most `SIDE`."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W)."""
        factor = SIDE / min(x.shape[2:])
        return x if factor >= 1 else nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", antialias=True)


class Network(nn.Module):
    """Three 3×3 convolutions, averaged over the image, then `WIDTH` numbers; a head per task."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Shrunk(),
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, WIDTH),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(WIDTH, count) for count in (TURNS, len(CORRUPTIONS), *([classes] if classes else [])))

    def forward(self, x: Tensor) -> list[Tensor]:
        """One set of logits per task."""
        seen = self.body(x)
        return [head(seen) for head in self.heads]


def fit(images: Images, seed: int) -> Features:
    """Fit the network on the training images."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.torch_seed(streams.FEATURES, seed))
        network = Network(images.train.shape[0], images.classes)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for step in range(STEPS):
        generator = streams.generator(streams.FEATURES, seed, step + 1)
        x, answers = tasks(images, generator)
        loss = sum(nn.functional.cross_entropy(logits, answer) for logits, answer in zip(network(x), answers, strict=True))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    network.eval()
    told = accuracies(network, images, streams.generator(streams.FEATURES, seed))
    names = ("rotation", "corruption", "label")
    quality = "right on held-out images: " + ", ".join(f"{name} {value:.0%}" for name, value in zip(names, told, strict=False))
    label = features.reader(nn.Sequential(network.body, network.heads[2])) if images.classes else None
    return Features(NAME, quality, features.standardised(network.body, images.train), label)


def tasks(images: Images, generator: np.random.Generator, *, unseen: bool = False) -> tuple[Tensor, list[Tensor]]:
    """A batch of turned and corrupted images, and the answers: turn, corruption and, where there is one, label."""
    source = images.held_out if unseen else images.train
    rows = generator.integers(len(source), size=BATCH)
    x, labels = torch.from_numpy(source.images(rows)), source.labels(rows) if images.classes else None
    turn, kind = (torch.from_numpy(generator.integers(count, size=BATCH)) for count in (TURNS, len(CORRUPTIONS)))
    for number in range(TURNS):
        x[turn == number] = torch.rot90(x[turn == number], number, (2, 3))
    for number, corrupt in enumerate(CORRUPTIONS.values()):
        if (kind == number).any():
            x[kind == number] = corrupt(x[kind == number], generator)
    return x, [turn, kind] if labels is None else [turn, kind, torch.as_tensor(labels)]


def accuracies(network: Network, images: Images, generator: np.random.Generator, batches: int = 10) -> list[float]:
    """Shares of right answers on held-out images, task by task."""
    right = []
    for _ in range(batches):
        x, answers = tasks(images, generator, unseen=True)
        with torch.no_grad():
            right.append([float((logits.argmax(1) == answer).float().mean()) for logits, answer in zip(network(x), answers, strict=True)])
    return np.mean(right, axis=0).tolist()  # type: ignore[no-any-return]


def blurred(x: Tensor, generator: np.random.Generator) -> Tensor:
    """Mixed with its neighbours, each image by its own amount."""
    amount = torch.from_numpy(generator.uniform(0.2, 1.0, (len(x), 1, 1, 1)).astype(np.float32))
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])).div(16).expand(x.shape[1], 1, 3, 3)
    soft = nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
    return x.lerp(soft, amount)


def noisy(x: Tensor, generator: np.random.Generator) -> Tensor:
    """With white noise of a few hundredths to a third of the images' deviation."""
    amount = generator.uniform(0.03, 0.3, (len(x), 1, 1, 1)) * float(x.std())
    return x + torch.from_numpy((amount * generator.standard_normal(tuple(x.shape))).astype(np.float32))


def gaussian(x: Tensor, generator: np.random.Generator) -> Tensor:
    """Its spectrum with the phases of white noise: a Gaussian texture with the image's own correlations."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    noise = torch.from_numpy(generator.standard_normal((len(x), 1, *x.shape[2:])).astype(np.float32))
    phase = torch.fft.rfft2(noise)
    texture: Tensor = torch.fft.irfft2(torch.fft.rfft2(x - mean) * phase / phase.abs().clamp_min(1e-12), s=tuple(x.shape[2:]))
    return mean + texture


def contrasted(x: Tensor, generator: np.random.Generator) -> Tensor:
    """Flatter or harsher about its mean."""
    factor = torch.from_numpy(np.exp(generator.choice([-1, 1], len(x)) * generator.uniform(0.15, 0.5, len(x))).astype(np.float32))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor.reshape(-1, 1, 1, 1) * (x - mean)


def mixed(x: Tensor, generator: np.random.Generator) -> Tensor:
    """Laid over another image."""
    amount = torch.from_numpy(generator.uniform(0.2, 0.5, (len(x), 1, 1, 1)).astype(np.float32))
    return x.lerp(x.roll(1, 0), amount)


CORRUPTIONS = {
    "none": lambda x, generator: x,  # noqa: ARG005
    "blur": blurred,
    "noise": noisy,
    "random phases": gaussian,
    "contrast": contrasted,
    "mixture": mixed,
}
