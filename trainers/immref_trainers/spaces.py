"""Where a network works: on the images' own pixels, or in the latents of a pipeline's VAE."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from immref_trainers import export, streams
from immref_trainers.config import Run
from immref_trainers.data import prompts
from immref_trainers.data.training import Images, Source
from immref_trainers.errors import UsageError
from immref_trainers.export import Facts
from immref_trainers.networks import unet
from immref_trainers.networks.settings import PolicyUNet, TextUNet, UNet
from immref_trainers.objectives.regression import class_labels

Array = np.ndarray[Any, Any]


class Space(Protocol):
    """What the loop, the samplers and the priors see of the images, and the network that is trained there."""

    @property
    def train(self) -> Source:
        """The training images as the network gets them."""

    @property
    def held_out(self) -> Source:
        """Those held out, likewise."""

    @property
    def unasked(self) -> int | None:
        """The label by which nothing is asked for; None where the network knows none."""

    @property
    def prompts(self) -> list[str]:
        """Texts to ask for when there is nobody to ask; none where the network is told none."""

    @property
    def notes(self) -> list[str]:
        """Sentences on what training will not see as it is."""

    def asked(self, count: int) -> Array:
        """Labels (M,) to ask for when samples are judged."""

    def kinds(self, labels_B: Array) -> Array:
        """Labels (B,), or which captions are alike where each image has its own."""

    def network(self) -> torch.nn.Module:
        """The network before its first step, on the host."""

    def conditions(self, labels_B: Tensor) -> dict[str, Tensor]:
        """What the network is told by labels (B,), under the names of diffusers' arguments."""

    def decode(self, samples: Tensor) -> Tensor:
        """Samples (M, ...) of the network, image scaling undone, as images (M, C, H, W) on the host."""

    def export(self, network: torch.nn.Module, facts: Facts, folder: Path) -> str | None:
        """Write a trained network so that diffusers opens it; return why its pipeline cannot sample, or None where it can."""


class Pixels:
    """The images as they are; labels are told as class labels."""

    unasked = None

    def __init__(self, run: Run, images: Images) -> None:
        self.prompts: list[str] = []
        self.notes: list[str] = []
        self.run, self.train, self.held_out, self.classes = run, images.train, images.held_out, images.classes

    def asked(self, count: int) -> Array:
        """Every label in turn."""
        return np.arange(count) % self.classes

    def kinds(self, labels_B: Array) -> Array:
        """The labels."""
        return labels_B

    def network(self) -> torch.nn.Module:
        """diffusers' UNet2DModel, its weights drawn by the run's seed."""
        assert isinstance(self.run.network, UNet)
        channels, side, _ = self.train.shape
        return unet.build(self.run.network, channels, side, streams.torch_seed(streams.WEIGHTS, self.run.seed), self.classes)

    def conditions(self, labels_B: Tensor) -> dict[str, Tensor]:
        """The labels."""
        return class_labels(labels_B)

    def decode(self, samples: Tensor) -> Tensor:
        """The samples."""
        return samples.cpu()

    def export(self, network: torch.nn.Module, facts: Facts, folder: Path) -> str | None:
        """A folder of UNet2DModel and scheduler."""
        return export.export(self.run, network, facts, folder)


def of_run(run: Run, images: Images, device: torch.device) -> Space:
    """The space of a run's network."""
    if isinstance(run.network, UNet):
        return Pixels(run, images)
    if isinstance(run.network, PolicyUNet):
        from immref_trainers.pusht.space import PolicySpace

        return PolicySpace(run, images)
    from immref_trainers.stable_diffusion.latents import LatentSpace

    return LatentSpace(run, images, device)


def check(run: Run, images: Images) -> None:
    """A ValueError where the pipeline or the CLIP model of a network told in words cannot be opened or does not suit `run`."""
    try:
        from immref_trainers.metrics import clip
        from immref_trainers.stable_diffusion import pipeline
    except ModuleNotFoundError as error:
        raise UsageError(f"a network told in words needs {error.name}: pip install 'immref[sd]'") from error

    assert isinstance(run.network, TextUNet)
    pipeline.open_parts(run, images, torch.device("cpu"))
    prompts.of_images(run.network, images)
    if run.evaluation.clip is not None:
        clip.check(Path(run.evaluation.clip))
