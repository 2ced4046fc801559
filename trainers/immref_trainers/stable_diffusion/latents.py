"""Images as the latents of a frozen VAE, and names as the hidden states of a frozen text encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref_trainers import export, streams
from immref_trainers.config import Run, TextUNet
from immref_trainers.data.training import Images, Source
from immref_trainers.export import Facts
from immref_trainers.stable_diffusion import pipeline

Array = np.ndarray[Any, Any]

DECODED = 100  # samples that the VAE decodes at once


@dataclass(frozen=True)
class Latents:
    """A source of latents (C, H/f, W/f), times the VAE's scaling factor."""

    source: Source
    parts: pipeline.Parts
    seed: int

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

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:
        """Latents (B, C, H/f, W/f): drawn from the VAE's posterior by seed, epoch and index; its means without epochs."""
        with torch.inference_mode():
            posterior = self.parts.vae.encode(torch.from_numpy(self.source.images(index_B, epoch_B)).to(self.parts.device)).latent_dist
            latents = posterior.mean
            if epoch_B is not None:
                latents = latents + posterior.std * torch.from_numpy(self._noise(index_B, epoch_B)).to(latents)
            found: Array = (latents * self.parts.scaling_factor).float().cpu().numpy()
        return found

    def labels(self, index_B: Array) -> Array | None:
        """Those of the images."""
        return self.source.labels(index_B)

    def _noise(self, index_B: Array, epoch_B: Array) -> Array:
        pairs = zip(epoch_B.tolist(), index_B.tolist(), strict=True)
        return np.stack(
            [streams.generator(streams.LATENT, self.seed, *pair).standard_normal(self.shape, dtype=np.float32) for pair in pairs]
        )


class Words:
    """Labels told as prompts, the last one empty; latents made images.

    `folded` is the image scaling that the VAE's scaling factor holds: 1 but in the folder of a finished run.
    """

    def __init__(self, parts: pipeline.Parts, prompts: list[str], folded: float = 1.0) -> None:
        self.parts, self.hidden, self.unasked = parts, parts.encode([*prompts, ""]), len(prompts)
        self.factor = parts.scaling_factor / folded

    def conditions(self, labels_B: Tensor) -> dict[str, Tensor]:
        """The hidden states of the prompts (B, L, D)."""
        return {"encoder_hidden_states": self.hidden[labels_B]}

    @torch.inference_mode()
    def decode(self, samples: Tensor) -> Tensor:
        """Images in [-1, 1] on the host, as the VAE makes them of latents."""
        parts = [part.to(self.parts.device) / self.factor for part in samples.split(DECODED)]
        return torch.cat([self.parts.vae.decode(part).sample.float().cpu().clamp(-1, 1) for part in parts])


class LatentSpace(Words):
    """A pipeline's latents, and the UNet that is trained in them."""

    def __init__(self, run: Run, images: Images, device: torch.device) -> None:
        assert isinstance(run.network, TextUNet)
        parts = pipeline.open_parts(run.network, images, device)
        super().__init__(parts, pipeline.prompts(run.network.prompt, images.names))
        self.run, self.classes = run, images.classes
        self.train, self.held_out = (Latents(source, parts, run.seed) for source in (images.train, images.held_out))

    def network(self) -> torch.nn.Module:
        """The pipeline's UNet2DConditionModel: its own weights, or weights drawn by the run's seed."""
        assert isinstance(self.run.network, TextUNet)
        network = self.parts.unet(self.run.network.weights, streams.torch_seed(streams.WEIGHTS, self.run.seed))
        if self.run.network.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return network  # type: ignore[no-any-return]

    def export(self, network: torch.nn.Module, facts: Facts, folder: Path) -> str | None:
        """The pipeline with the trained UNet, the run's sampler, and the image scaling in the VAE's scaling factor."""
        pipeline.save(self.parts, network, export.scheduler(self.run, facts), self.run.pairing.scale, folder)
        return None
