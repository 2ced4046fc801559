"""diffusers' UNet2DModel for images in pixels."""

import torch
from diffusers import UNet2DModel

from immref_trainers.networks.settings import UNet


def build(sizes: UNet, channels: int, side: int, seed: int, classes: int = 0) -> torch.nn.Module:
    """A UNet whose weights are drawn from `seed` alone; `classes` counts the labels that a class-conditional one is told."""
    if sizes.class_conditional and classes < 1:
        raise ValueError(f"classes must be ≥ 1 for a class-conditional network, got {classes}")
    attends = [level in sizes.attention_at for level in range(len(sizes.block_out_channels))]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: torch.nn.Module = UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
            up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
            block_out_channels=sizes.block_out_channels,
            layers_per_block=sizes.layers_per_block,
            norm_num_groups=sizes.norm_num_groups,
            attention_head_dim=sizes.attention_head_dim,
            add_attention=any(attends),
            dropout=sizes.dropout,
            num_class_embeds=classes if sizes.class_conditional else None,
        )
    return network
