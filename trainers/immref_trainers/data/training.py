"""What a run trains on: images by index as training sees them, and those that it never sees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from immref_trainers.config import Consistency, Run
from immref_trainers.data.settings import CaptionedDigits, Digits, Directory, Photos, PushT
from immref_trainers.errors import UsageError
from immref_trainers.networks.settings import PolicyUNet, UNet

Array = np.ndarray[Any, Any]
Watch = Callable[[int, int], None]

SPLIT_SEED = 0  # the held-out images are the same in every run
CHUNK = 500  # images in memory at a time


class Source(Protocol):
    """N images by index."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image; (2, L) of action chunks."""

    @property
    def largest(self) -> float:
        """The largest absolute value that an image has, or can have."""

    @property
    def augmented(self) -> bool:
        """Whether an image differs from epoch to epoch."""

    def __len__(self) -> int: ...

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:
        """Images (B, C, H, W) float32, normalised, as training sees them in these epochs; without, as they are."""

    def labels(self, index_B: Array, epoch_B: Array | None = None) -> Array | None:
        """Labels (B,) int64 that training tells in these epochs, a policy's observations (B, O), or None where the source has neither."""

    def captions(self, index_B: Array) -> list[tuple[str, ...]] | None:
        """One caption or several of each image, or None where the source has none."""


@dataclass(frozen=True)
class Arrays:
    """A source in memory: images x (N, C, H, W) float32 and their labels y (N,)."""

    x: Array
    y: Array
    augmented = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def largest(self) -> float:
        """Of the values that the images have."""
        return float(max(self.x.max(), -self.x.min()))

    def __len__(self) -> int:
        return len(self.x)

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:  # noqa: ARG002
        """The images; every epoch sees the same."""
        x_B: Array = self.x[index_B]
        return x_B

    def labels(self, index_B: Array, epoch_B: Array | None = None) -> Array:  # noqa: ARG002
        """Their labels; every epoch sees the same."""
        y_B: Array = self.y[index_B]
        return y_B

    def captions(self, index_B: Array) -> None:
        """They have none."""


@dataclass(frozen=True)
class Images:
    """The images for training and those held out.

    Attributes
    ----------
    classes : how many labels there are; 0 where images have none
    low, high : the values that pictures show as black and white
    names : of the labels, where they have some
    """

    train: Source
    held_out: Source
    classes: int
    low: float
    high: float
    names: tuple[str, ...] = ()

    def pixels(self, x: Array) -> Array:
        """Images (N, C, H, W) as bytes."""
        return as_bytes(x, self.low, self.high)


def as_bytes(x: Array, low: float, high: float) -> Array:
    """Images as bytes by the values that are black and white, either of which may be larger; what lies beyond is clipped."""
    pixels: Array = np.rint((x.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return pixels


def open_images(
    settings: Digits | Photos | CaptionedDigits | Directory | PushT, seed: int, workers: int = 1, watch: Watch | None = None
) -> Images:
    """The images that `settings` name; `seed` decides how augmented ones are seen."""
    if isinstance(settings, Digits):
        from immref_trainers.data import digits

        return digits.load(settings)
    if isinstance(settings, Photos):
        from immref_trainers.data import photos

        return photos.load(settings)
    if isinstance(settings, CaptionedDigits):
        from immref_trainers.data import captioned

        return captioned.load(settings)
    if isinstance(settings, PushT):
        return pusht(settings)
    from immref_trainers.data import directory

    return directory.load(settings, seed, workers, watch)


def pusht(settings: PushT) -> Images:
    """Action chunks in the place of images; a UsageError where the extra is not installed."""
    try:
        from immref_trainers.pusht import chunks
    except ModuleNotFoundError as error:
        raise UsageError(f"PushT needs {str(error.name).partition('.')[0]}: pip install 'immref[pusht]'") from error
    return chunks.load(settings)


def check(images: Images, run: Run) -> None:
    """A ValueError where the network or the objective of `run` is not made for such images, or its own files are not there."""
    if isinstance(run.network, PolicyUNet):
        halved = 2 ** (len(run.network.down_dims) - 1)
        if images.train.shape[-1] % halved:
            raise ValueError(
                f"data.horizon must be divisible by {halved} with network.down_dims {run.network.down_dims}, got {images.train.shape[-1]}"
            )
        return
    _, height, width = images.train.shape
    halvings = len(run.network.block_out_channels) - 1 if isinstance(run.network, UNet) else 0
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(f"network.block_out_channels must have fewer levels: {height}×{width} images cannot be halved {halvings} times")
    if isinstance(run.network, UNet) and run.network.class_conditional and not images.classes:
        raise ValueError("network.class_conditional needs images with labels, and these have none")
    if isinstance(run.objective, Consistency) and run.objective.distance == "lpips":
        seen = images.train.shape[0], images.low, images.high
        if seen != (3, -1.0, 1.0):
            raise ValueError(f"objective.distance lpips needs 3 channels in [-1, 1], got {seen[0]} in [{seen[1]:.3g}, {seen[2]:.3g}]")
        from immref_trainers.objectives import lpips

        lpips.load(run.objective.lpips_weights)
    if not isinstance(run.network, UNet):
        from immref_trainers import spaces

        spaces.check(run, images)
    if run.pairing.within == "label" and not images.classes:
        raise ValueError("pairing.within label needs images with labels, and these have none")


def chunks(source: Source, count: int | None = None) -> list[Array]:
    """Indices of the first `count` images, of all without it, in pieces that fit into memory."""
    return pieces(np.arange(len(source) if count is None else min(count, len(source))))


def pieces(index: Array) -> list[Array]:
    """Indices (N,) in pieces whose images fit into memory."""
    return np.array_split(index, range(CHUNK, len(index), CHUNK))
