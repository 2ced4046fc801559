"""A whole pipeline made on the spot: tokenizer, CLIP and VAE fitted to a few named images, the UNet's weights as they are drawn.

It stands in for Stable Diffusion where none can be had, and its folder is opened by the same code.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from immref_trainers import streams
from immref_trainers.data.training import Images

Tell = Callable[[str, int, int], None]  # what is being fitted, steps done, steps in all

LENGTH, HIDDEN = 16, 64  # tokens of a prompt, numbers per token


class Fit(NamedTuple):
    """How long, and with which learning rate at most."""

    steps: int
    batch: int
    rate: float


CLIP, VAE = Fit(600, 64, 1e-3), Fit(300, 32, 2e-3)
WARM_UP = 50  # steps
KL_WEIGHT = 1e-6
MERGES = 200
START, END = "<|startoftext|>", "<|endoftext|>"


def make(folder: Path, images: Images, prompts: list[str], tell: Tell) -> None:
    """Write a StableDiffusionPipeline's directory for `images`, label i of which is called `prompts[i]`; and `clip/` beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.torch_seed(streams.FEATURES, 3))
        words = tokenizer(prompts)
        clip = fit_clip(images, words, prompts, tell)
        vae = fit_vae(images, tell)
        unet = UNet2DConditionModel(
            sample_size=images.train.shape[1] // 2,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=4,
            cross_attention_dim=HIDDEN,
        )
    text = CLIPTextModel(clip.config.text_config)
    text.load_state_dict({name.removeprefix("text_model."): value for name, value in clip.text_model.state_dict().items()}, strict=False)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    clip.save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(half, indent=2) + "\n", encoding="utf-8")


def tokenizer(prompts: list[str]) -> CLIPTokenizer:
    """CLIP's byte-level pairs, learned from `prompts`; every byte has a token, inside a word and at its end."""
    plain = CLIPTokenizer(model_max_length=LENGTH)
    learned = plain.train_new_from_iterator(prompts * 2, MERGES + 256, initial_alphabet=ByteLevel.alphabet())
    merges = [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(pair) for pair in merges), START, END]
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=LENGTH)


def fit_clip(images: Images, words: CLIPTokenizer, prompts: list[str], tell: Tell) -> CLIPModel:
    """Text and images of a label near to one another: each image is asked which of the prompts is its own."""
    size = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(vocab_size=len(words), max_position_embeddings=LENGTH, **size, **ends).to_dict(),
            vision_config=CLIPVisionConfig(image_size=images.train.shape[1], patch_size=4, **size).to_dict(),
            projection_dim=HIDDEN,
        )
    )
    tokens = torch.as_tensor(words(prompts, padding="max_length", max_length=LENGTH)["input_ids"])

    def loss(rows: np.ndarray) -> Tensor:
        found = model(input_ids=tokens, pixel_values=torch.from_numpy(images.train.images(rows)))
        return nn.functional.cross_entropy(found.logits_per_image, torch.as_tensor(images.train.labels(rows)))

    _fit("CLIP", model, loss, CLIP, len(images.train), tell)
    return model.eval()


def fit_vae(images: Images, tell: Tell) -> AutoencoderKL:
    """Latents (4, H/2, W/2), by mean squares and a trace of the divergence; `scaling_factor` makes their deviation 1."""
    vae = AutoencoderKL(
        in_channels=images.train.shape[0],
        out_channels=images.train.shape[0],
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=images.train.shape[1],
    )

    def loss(rows: np.ndarray) -> Tensor:
        x = torch.from_numpy(images.train.images(rows))
        posterior = vae.encode(x).latent_dist
        error = nn.functional.mse_loss(vae.decode(posterior.sample()).sample, x)
        return error + KL_WEIGHT * posterior.kl().mean()  # type: ignore[no-any-return]

    _fit("VAE", vae, loss, VAE, len(images.train), tell)
    with torch.no_grad():
        latents = vae.eval().encode(torch.from_numpy(images.train.images(np.arange(min(500, len(images.train)))))).latent_dist.mean
    vae.register_to_config(scaling_factor=1 / float(latents.std()))
    return vae


def _fit(name: str, model: nn.Module, loss: Callable[[np.ndarray], Tensor], fit: Fit, count: int, tell: Tell) -> None:
    """Adam with a rate that warms up, without which texts stay alike, and falls to 0; on rows drawn by number of step."""
    optimizer = torch.optim.Adam(model.parameters(), fit.rate)
    falling = [math.cos(math.pi * step / fit.steps / 2) ** 2 for step in range(fit.steps + 1)]
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * falling[step])
    for step in range(fit.steps):
        value = loss(streams.generator(streams.FEATURES, 3, step + 1).integers(count, size=fit.batch))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        tell(name, step + 1, fit.steps)
