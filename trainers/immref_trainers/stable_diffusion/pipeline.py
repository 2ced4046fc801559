"""A pipeline's directory as Stable Diffusion has it: what of it stays frozen, and the UNet that is trained."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from immref_trainers.config import TextUNet
from immref_trainers.data.training import Images

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

FOLDERS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
LOCAL: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Parts:
    """What of a pipeline is not trained, on the device of training; and where its UNet lies."""

    folder: Path
    tokenizer: Any
    text_encoder: Any
    vae: Any
    device: torch.device

    @property
    def scaling_factor(self) -> float:
        """By which latents are multiplied."""
        return float(self.vae.config.scaling_factor)

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return int(self.vae.config.latent_channels)

    @property
    def shrinks(self) -> int:
        """How many pixels of an image's side one of a latent's stands for."""
        levels: int = len(self.vae.config.block_out_channels)
        return int(2 ** (levels - 1))

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Tensor:
        """The text encoder's hidden states (P, L, D)."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens["input_ids"].to(self.device))[0].float()  # type: ignore[no-any-return]

    def unet(self, weights: str, seed: int) -> Any:
        """The UNet with its weights, or of its sizes with weights drawn from `seed`."""
        if weights == "pretrained":
            return UNet2DConditionModel.from_pretrained(self.folder / "unet", **LOCAL).train()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(self.folder / "unet"))


def open_parts(settings: TextUNet, images: Images, device: torch.device) -> Parts:
    """What is frozen of a run's pipeline, which must go with the images.

    Raises
    ------
    ValueError
        Where the directory is none of a pipeline's, its weights are pickles, or the images are not what its VAE takes.
    """
    folder = Path(settings.pipeline) if settings.pipeline else made_on_the_spot(settings, images)
    parts = load(folder, device)
    channels, height, width = images.train.shape
    if channels != parts.vae.config.in_channels or (images.low, images.high) != (-1.0, 1.0):
        wanted = f"{parts.vae.config.in_channels} channels in [-1, 1]"
        raise ValueError(f"network.pipeline {folder} takes images of {wanted}, got {channels} in [{images.low:.3g}, {images.high:.3g}]")
    halved = 2 ** (len(UNet2DConditionModel.load_config(folder / "unet")["block_out_channels"]) - 1) * parts.shrinks
    if height % halved or width % halved:
        raise ValueError(f"network.pipeline {folder} takes images whose sides {halved} divides, got {height}×{width}")
    return parts


def load(folder: Path, device: torch.device) -> Parts:
    """What is frozen of the pipeline in `folder`; a ValueError where it is none that can be opened."""
    check(folder)
    text_encoder, vae = (
        kind.from_pretrained(folder / name, **LOCAL).to(device).requires_grad_(False).eval()
        for kind, name in ((CLIPTextModel, "text_encoder"), (AutoencoderKL, "vae"))
    )
    return Parts(folder, CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), text_encoder, vae, device)


def check(folder: Path) -> None:
    """A ValueError where `folder` is no pipeline's directory that can be opened."""
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"network.pipeline: pass a local directory, {folder} {kind}; names on the Hub are not downloaded")
    if lacking := [name for name in FOLDERS if not (folder / name).is_dir()]:
        wanted = "network.pipeline must hold a Stable Diffusion pipeline as diffusers saves it"
        raise ValueError(f"{wanted}, {folder} lacks {', '.join(lacking)}")
    for name in ("text_encoder", "vae", "unet"):
        files = sorted((folder / name).iterdir())
        pickles = [file.name for file in files if file.suffix in PICKLES]
        if not any(file.suffix == ".safetensors" for file in files):
            found = f"{pickles[0]}, a pickle" if pickles else "none"
            wanted = "network.pipeline must have its weights as safetensors"
            raise ValueError(f"{wanted}, {folder / name} has {found}; save it anew with diffusers")


def prompts(prompt: str, names: tuple[str, ...]) -> list[str]:
    """The prompt of every label."""
    if not names:
        raise ValueError("network.prompt needs images whose labels have names, and these have none")
    return [prompt.format(name) for name in names]


def save(parts: Parts, unet: Any, scheduler: Any, scale: float, folder: Path) -> None:
    """Write a directory that StableDiffusionPipeline opens: latents divided by the image scaling are decoded as before."""
    for name in ("tokenizer", "text_encoder", "vae"):
        shutil.copytree(parts.folder / name, folder / name)
    settings = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8")) | {"scaling_factor": scale * parts.scaling_factor}
    (folder / "vae" / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", type(parts.text_encoder).__name__],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def made_on_the_spot(settings: TextUNet, images: Images) -> Path:
    """The directory of the digits' pipeline; made on the first call, in the user's cache."""
    from immref_trainers.stable_diffusion import offline

    source = Path(offline.__file__).read_text(encoding="utf-8")
    made_of = "\n".join([settings.prompt, *images.names, str(len(images.train)), torch.__version__, source])
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "immref"
    folder = home / f"pipeline-{key}"
    if not folder.exists():
        print("making tokenizer, CLIP and VAE for the digits, once: about a minute", file=sys.stderr)
        unfinished = home / f"pipeline-{key}.{os.getpid()}"
        offline.make(unfinished, images, prompts(settings.prompt, images.names), lambda *_: None)
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return folder
