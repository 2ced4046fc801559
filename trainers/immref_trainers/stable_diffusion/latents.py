"""Images as the latents of a frozen VAE, and names as the hidden states of a frozen text encoder."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from immref_trainers import export, streams
from immref_trainers.config import Run
from immref_trainers.data import prompts
from immref_trainers.data.prompts import Captions
from immref_trainers.data.training import Images, Source
from immref_trainers.errors import TrainingError
from immref_trainers.export import Facts
from immref_trainers.networks.settings import TextUNet
from immref_trainers.stable_diffusion import pipeline, posteriors

Array = np.ndarray[Any, Any]

HELD = 2_048  # prompts whose hidden states stay in memory; more are encoded when they are told
GROUPS = 10  # of captions, when it is measured whether noise tells them apart
EXAMPLES = 64  # captions that a finished run's folder keeps
IN_MEMORY = 2**24  # numbers of the latents of a source that are encoded once
ENCODED, DECODED = 32, 32  # images that the VAE sees at once


@dataclass(frozen=True)
class Latents:
    """A source of latents (C, H/f, W/f), times the VAE's scaling factor."""

    source: Source
    parts: pipeline.Parts
    seed: int
    own: Captions | None
    held: posteriors.Posteriors | None = None
    """Where every epoch sees the same images, and their posteriors are kept."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H/f, W/f)."""
        _, height, width = self.source.shape
        return self.parts.latent_channels, height // self.parts.shrinks, width // self.parts.shrinks

    @property
    def largest(self) -> float:
        """Latents have no bound."""
        return float("inf")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def augmented(self) -> bool:
        """As the images are."""
        return self.source.augmented

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:
        """Latents (B, C, H/f, W/f): drawn from the VAE's posterior by seed, epoch and index; its means without epochs."""
        mean, std = self.encoded(index_B, epoch_B) if self.held is None else self.held(index_B)
        found: Array = self.parts.scaling_factor * (mean if epoch_B is None else mean + std * self._noise(index_B, epoch_B))
        if not np.isfinite(found).all():
            number = index_B[~np.isfinite(found).reshape(len(found), -1).all(axis=1)][0]
            raise TrainingError(f"latents of image {number} are not finite: the VAE in {self.parts.folder} cannot encode it")
        return found

    def labels(self, index_B: Array, epoch_B: Array | None = None) -> Array | None:
        """Numbers of prompts (B,): the images' labels, or their captions as `Captions.drawn` has them."""
        return self.source.labels(index_B, epoch_B) if self.own is None else self.own.drawn(self.seed, index_B, epoch_B)

    def captions(self, index_B: Array) -> list[tuple[str, ...]] | None:
        """Those of the images."""
        return self.source.captions(index_B)

    @torch.inference_mode()
    def encoded(self, index_B: Array, epoch_B: Array | None = None) -> tuple[Array, Array]:
        """Means and deviations (B, C, H/f, W/f) of the posteriors of images, as the VAE gives them now."""
        parts = []
        for start in range(0, len(index_B), ENCODED):
            rows = slice(start, start + ENCODED)
            x = torch.from_numpy(self.source.images(index_B[rows], None if epoch_B is None else epoch_B[rows]))
            posterior = self.parts.vae.encode(x.to(self.parts.device)).latent_dist
            parts.append([part.cpu().numpy() for part in (posterior.mean, posterior.std)])
        mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, std

    def _noise(self, index_B: Array, epoch_B: Array) -> Array:
        pairs = zip(epoch_B.tolist(), index_B.tolist(), strict=True)
        return np.stack(
            [streams.generator(streams.LATENT, self.seed, *pair).standard_normal(self.shape, dtype=np.float32) for pair in pairs]
        )


def holding(latents: Latents, cache: Path | None) -> Latents:
    """The same, every image encoded now where each is always the same: on disk where a folder is given, in memory where they fit."""
    count = len(latents)
    if latents.augmented:
        return latents
    if cache is not None:
        return replace(latents, held=posteriors.on_disk(latents.encoded, count, cache))
    return latents if count * math.prod(latents.shape) > IN_MEMORY else replace(latents, held=posteriors.in_memory(latents.encoded, count))


class Words:
    """Labels told as texts, label i as the i-th, the last one empty; latents made images.

    `folded` is the image scaling that the VAE's scaling factor holds: 1 but in the folder of a finished run.
    """

    def __init__(self, parts: pipeline.Parts, texts: tuple[str, ...], folded: float = 1.0) -> None:
        self.parts, self.texts, self.unasked = parts, (*texts, ""), len(texts)
        self.hidden = parts.encode(self.texts) if len(texts) <= HELD else None
        self.factor = parts.scaling_factor / folded

    def conditions(self, labels_B: Tensor) -> dict[str, Tensor]:
        """The hidden states of the prompts (B, L, D)."""
        held = self.hidden
        told = self.parts.encode([self.texts[label] for label in labels_B.tolist()]) if held is None else held[labels_B]
        return {"encoder_hidden_states": told}

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """The means of the latents of images (N, C, H, W), image scaling aside."""
        parts = [self.parts.vae.encode(part.to(self.parts.device)).latent_dist.mean for part in x.split(ENCODED)]
        return torch.cat(parts) * self.factor

    @torch.inference_mode()
    def decode(self, samples: Tensor) -> Tensor:
        """Images in [-1, 1] on the host, as the VAE makes them of latents."""
        parts = [part.to(self.parts.device) / self.factor for part in samples.split(DECODED)]
        return torch.cat([self.parts.vae.decode(part).sample.float().cpu().clamp(-1, 1) for part in parts])


class LatentSpace(Words):
    """A pipeline's latents, and the UNet that is trained in them."""

    def __init__(self, run: Run, images: Images, device: torch.device) -> None:
        assert isinstance(run.network, TextUNet)
        parts, told = pipeline.open_parts(run, images, device), prompts.of_images(run.network, images)
        super().__init__(parts, told.texts)
        self.run = run
        cache = None if run.network.latent_cache is None else Path(run.network.latent_cache)
        self.train = holding(Latents(images.train, parts, run.seed, told.train), cache and cache / "train")
        self.held_out = holding(Latents(images.held_out, parts, run.seed, told.held_out), cache and cache / "held_out")

    @property
    def prompts(self) -> list[str]:
        """That of every label; the captions of some held-out images where each has its own."""
        own = self.held_out.own
        return list(self.texts[:-1]) if own is None else [self.texts[number] for number in self.asked(min(EXAMPLES, len(own.start) - 1))]

    @property
    def notes(self) -> list[str]:
        """A sentence where prompts are cut."""
        if not (cut := self.parts.too_long(self.texts)):
            return []
        longer = f"longer than the text encoder's {self.parts.tokenizer.model_max_length} tokens"
        return [f"{len(cut):,} of {len(self.texts) - 1:,} prompts are {longer} and cut there, the first: {cut[0]!r}"]

    def asked(self, count: int) -> Array:
        """Every prompt in turn; the captions of the held-out images where each has its own."""
        own, turn = self.held_out.own, np.arange(count)
        return turn % self.unasked if own is None else own.drawn(self.run.seed, turn % len(self.held_out), None)

    def kinds(self, labels_B: Array) -> Array:
        """Labels (B,); where each image has a caption of its own, its group by k-means of their mean hidden states."""
        if self.train.own is None:
            return labels_B
        pieces = np.array_split(labels_B, range(pipeline.ENCODED, len(labels_B), pipeline.ENCODED))
        told = np.concatenate([self.parts.encode([self.texts[label] for label in piece]).mean(dim=1).cpu().numpy() for piece in pieces])
        groups: Array = KMeans(min(GROUPS, len(np.unique(told, axis=0))), random_state=0).fit_predict(told)
        return groups

    def network(self) -> torch.nn.Module:
        """The pipeline's UNet2DConditionModel: its own weights, perhaps with low-rank updates, or weights drawn by the run's seed."""
        assert isinstance(self.run.network, TextUNet)
        settings, seed = self.run.network, streams.torch_seed(streams.WEIGHTS, self.run.seed)
        network = self.parts.unet(settings.weights, seed, settings.lora_rank)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return network  # type: ignore[no-any-return]

    def export(self, network: torch.nn.Module, facts: Facts, folder: Path) -> str | None:
        """The pipeline with the trained UNet, the run's sampler, and the image scaling in the VAE's scaling factor."""
        pipeline.save(self.parts, network, export.scheduler(self.run, facts), self.run.pairing.scale, folder)
        return None
