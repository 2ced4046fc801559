"""Low-rank updates of a pretrained UNet's attention (LoRA), which peft adds and diffusers loads."""

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict

PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def adapt(unet: Any, rank: int, seed: int) -> None:
    """Freeze every weight and add updates B A of this rank, A drawn from `seed` and B = 0: the first step starts at the pretrained loss."""
    unet.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=PROJECTIONS))


def adapted(unet: Any) -> bool:
    """Whether it has updates."""
    return hasattr(unet, "peft_config")


def fused(unet: Any) -> Any:
    """A plain UNet whose weights hold the updates."""
    whole = copy.deepcopy(unet)
    whole.fuse_lora()
    whole.unload_lora()
    return whole


def save(unet: Any, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `load_lora_weights` adds to the pipeline that was trained on."""
    StableDiffusionPipeline.save_lora_weights(folder, convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)))
