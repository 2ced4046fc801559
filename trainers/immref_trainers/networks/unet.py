"""diffusers' UNet2DModel for small images."""

import torch
from diffusers import UNet2DModel

from immref_trainers.config import UNet


def build(sizes: UNet, channels: int, side: int, seed: int) -> torch.nn.Module:
    """A UNet without attention, its weights drawn from `seed` alone."""
    depth = len(sizes.block_out_channels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: torch.nn.Module = UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth,
            block_out_channels=sizes.block_out_channels,
            layers_per_block=sizes.layers_per_block,
            norm_num_groups=sizes.norm_num_groups,
            add_attention=False,
        )
    return network
