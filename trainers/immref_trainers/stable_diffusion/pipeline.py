"""A pipeline's directory as Stable Diffusion has it: what of it stays frozen, and the UNet that is trained."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from immref_trainers.config import Objective, Run
from immref_trainers.data import prompts
from immref_trainers.data.training import Images
from immref_trainers.made_once import made_once
from immref_trainers.networks.settings import TextUNet
from immref_trainers.stable_diffusion import lora

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

FOLDERS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
LOCAL: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
ENCODED = 256  # texts that the text encoder reads at once
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

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """The text encoder's hidden states (P, L, D)."""
        length, states = self.tokenizer.model_max_length, []
        for start in range(0, len(texts), ENCODED):
            part = list(texts[start : start + ENCODED])
            tokens = self.tokenizer(part, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            states.append(self.text_encoder(tokens["input_ids"].to(self.device))[0])
        return torch.cat(states)

    def too_long(self, texts: Sequence[str]) -> list[str]:
        """Those of `texts` that have more tokens than the text encoder reads."""
        tokens = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return [text for text, own in zip(texts, tokens, strict=True) if len(own) > self.tokenizer.model_max_length]

    def unet(self, weights: str, seed: int, lora_rank: int = 0) -> Any:
        """The UNet with its weights, perhaps with low-rank updates to train, or of its sizes with weights drawn from `seed`."""
        if weights == "pretrained":
            unet = UNet2DConditionModel.from_pretrained(self.folder / "unet", **LOCAL).train()
            if lora_rank:
                lora.adapt(unet, lora_rank, seed)
            return unet
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(self.folder / "unet"))


def open_parts(run: Run, images: Images, device: torch.device) -> Parts:
    """What is frozen of a run's pipeline, which must go with its images and, where its UNet is trained on, with its objective.

    Raises
    ------
    ValueError
        Where the directory is none of a pipeline's, its weights are pickles, or the images are not what its VAE takes.
    """
    assert isinstance(run.network, TextUNet)
    if run.network.latent_cache is not None and images.train.augmented:
        wanted = "network.latent_cache needs images that every epoch sees alike"
        raise ValueError(f"{wanted}, and data.random_flip or data.random_crop changes them")
    folder = folder_of(run, images)
    parts = load(folder, device)
    check_objective(run, folder)
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
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **LOCAL)
    vae = AutoencoderKL.from_pretrained(folder / "vae", **LOCAL)
    unet = UNet2DConditionModel.load_config(folder / "unet")
    for name, sides in {
        "in_channels": (unet["in_channels"], "vae", vae.config.latent_channels),
        "cross_attention_dim": (unet["cross_attention_dim"], "text_encoder", text_encoder.config.hidden_size),
    }.items():
        wanted, part, found = sides
        if wanted != found:
            raise ValueError(f"network.pipeline {folder}: the unet's {name} is {wanted}, and the {part} gives {found}")
    text_encoder, vae = (part.to(device).requires_grad_(False).eval() for part in (text_encoder, vae))
    return Parts(folder, CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), text_encoder, vae, device)


def check_objective(run: Run, folder: Path) -> None:
    """A ValueError where a pretrained UNet was trained on another objective than the run's."""
    network, objective = run.network, run.objective
    assert isinstance(network, TextUNet)
    assert isinstance(objective, Objective)
    if network.weights == "random":
        return
    known = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True).config
    for name in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "prediction_type"):
        asked = getattr(objective, "prediction" if name == "prediction_type" else name)
        if asked != known[name]:
            raise ValueError(
                f"objective must be that of the pretrained unet, whose {name} in {folder / 'scheduler'} is {known[name]}, got {asked}"
            )


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
        weights = [file.name for file in files if file.suffix == ".safetensors"]
        if not any("." not in Path(file).stem for file in weights):
            found = f"{weights[0]} alone" if weights else f"{pickles[0]}, a pickle" if pickles else "none"
            wanted = "network.pipeline must have its weights as safetensors, no variant such as fp16"
            raise ValueError(f"{wanted}, {folder / name} has {found}; save it anew with diffusers")


def folder_of(run: Run, images: Images) -> Path:
    """The directory of a run's pipeline: the one given, or the one made on the spot for the digits."""
    settings = run.network
    assert isinstance(settings, TextUNet)
    return Path(settings.pipeline) if settings.pipeline else made_on_the_spot(settings, images)


def save(parts: Parts, unet: Any, scheduler: Any, scale: float, folder: Path) -> None:
    """Write a directory that StableDiffusionPipeline opens: latents divided by the image scaling are decoded as before.

    Low-rank updates are in the UNet's weights; alone as well, where the scaling factor of the pipeline they were trained on suits them.
    """
    if lora.adapted(unet):
        if scale == 1:
            lora.save(unet, folder)
        unet = lora.fused(unet)
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

    texts, source = prompts.of_labels(settings, images.names), Path(offline.__file__).read_text(encoding="utf-8")

    def make(folder: Path) -> None:
        console = Console(stderr=True)
        console.print(f"making tokenizer, CLIP and VAE for the digits, once, in {folder.parent}", highlight=False)
        with Progress(console=console, transient=True) as bars:
            tasks: dict[str, TaskID] = {}

            def tell(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total)
                bars.update(tasks[name], completed=done)

            offline.make(folder, images, list(texts), tell)

    return made_once("pipeline", "\n".join([*texts, str(len(images.train)), torch.__version__, source]), make)
