"""Diffusion Policy's UNet over an action chunk, every block scaled and shifted by what is observed (FiLM)."""

from itertools import pairwise
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import Timesteps
from diffusers.models.unets.unet_1d import UNet1DOutput
from torch import Tensor, nn

from immref_trainers.networks.settings import PolicyUNet


def build(sizes: PolicyUNet, channels: int, observed: int, seed: int) -> nn.Module:
    """A network for chunks of `channels` actions told `observed` numbers, its weights drawn from `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = ConditionalUNet1D(
            in_channels=channels,
            observed=observed,
            down_dims=sizes.down_dims,
            kernel_size=sizes.kernel_size,
            norm_num_groups=sizes.norm_num_groups,
            step_embed_dim=sizes.step_embed_dim,
        )
    return network


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish."""

    def __init__(self, before: int, after: int, kernel_size: int, groups: int) -> None:
        super().__init__(nn.Conv1d(before, after, kernel_size, padding=kernel_size // 2), nn.GroupNorm(groups, after), nn.Mish())


class Residual(nn.Module):
    """Two convolutions; what the first gives is scaled and shifted by the condition."""

    def __init__(self, before: int, after: int, told: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.first = ConvBlock(before, after, kernel_size, groups)
        self.second = ConvBlock(after, after, kernel_size, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(told, 2 * after))
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, before, L) and (B, told) → (B, after, L)."""
        scale, shift = self.film(told)[..., None].chunk(2, dim=1)
        whole: Tensor = self.second(scale * self.first(x) + shift) + self.shortcut(x)
        return whole


class Level(nn.Module):
    """Two residual blocks, and a change of length after them."""

    def __init__(self, before: int, after: int, resample: nn.Module, told: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.first = Residual(before, after, told, kernel_size, groups)
        self.second = Residual(after, after, told, kernel_size, groups)
        self.resample = resample

    def forward(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """(B, before, L) and (B, told) → (B, after, L), and that at its new length."""
        kept = self.second(self.first(x, told), told)
        return kept, self.resample(kept)


class ConditionalUNet1D(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """(B, C, L) actions with noise, their time (B,) and observations (B, O) → what is predicted of them (B, C, L)."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 2,
        observed: int = 36,
        down_dims: tuple[int, ...] = (256, 512, 1024),
        kernel_size: int = 5,
        norm_num_groups: int = 8,
        step_embed_dim: int = 256,
    ) -> None:
        super().__init__()
        told, size = step_embed_dim + observed, step_embed_dim
        sizes = {"told": told, "kernel_size": kernel_size, "groups": norm_num_groups}
        halve: list[nn.Module] = [nn.Conv1d(dim, dim, 3, 2, 1) for dim in down_dims[:-1]]
        self.time = nn.Sequential(
            Timesteps(size, flip_sin_to_cos=False, downscale_freq_shift=1), nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size)
        )
        self.down = nn.ModuleList(
            Level(here, there, after, **sizes)
            for (here, there), after in zip(pairwise([in_channels, *down_dims]), [*halve, nn.Identity()], strict=True)
        )
        self.middle = Level(down_dims[-1], down_dims[-1], nn.Identity(), **sizes)
        self.up = nn.ModuleList(
            Level(2 * there, here, nn.ConvTranspose1d(here, here, 4, 2, 1), **sizes) for here, there in reversed(list(pairwise(down_dims)))
        )
        first = down_dims[0]
        self.last = nn.Sequential(ConvBlock(first, first, kernel_size, norm_num_groups), nn.Conv1d(first, in_channels, 1))

    def forward(self, sample: Tensor, timestep: Tensor, observations: Tensor) -> Any:
        """diffusers' way to call it; L must be divisible by 2 for every level but the last."""
        told = torch.cat([self.time(timestep.expand(len(sample))), observations], dim=1)
        x, skipped = sample, []
        for level in self.down:
            kept, x = level(x, told)
            skipped.append(kept)
        _, x = self.middle(x, told)
        for level in self.up:
            _, x = level(torch.cat([x, skipped.pop()], dim=1), told)
        return UNet1DOutput(sample=self.last(x))
