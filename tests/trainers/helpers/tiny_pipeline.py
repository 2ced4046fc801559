"""A Stable Diffusion pipeline of SD's shape (latents an eighth of the image's side) and next to no size, its weights as they are drawn."""

import json

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

from immref_trainers.stable_diffusion import offline

SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def write(folder):
    """The pipeline's directory, with a CLIP model in `clip/`."""
    torch.manual_seed(0)
    words = offline.tokenizer(["a photo of a tench", "a photo of a goldfish", "a fish on a table"])
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=offline.LENGTH, **SIZE, **ends)
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=256,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=16,
        ),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    vision = CLIPVisionConfig(image_size=32, patch_size=16, **SIZE)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    means = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(means), encoding="utf-8")
