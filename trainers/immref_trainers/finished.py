"""A finished run's network, opened from its folder alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from immref_trainers import config, objectives, samplers
from immref_trainers.config import Run
from immref_trainers.errors import UsageError
from immref_trainers.networks.settings import TextUNet
from immref_trainers.objectives.regression import Predictor

NEEDED = ("run.json", "data.json", "prior.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class Model:
    """What samplers call, and the way from images to what the network works on, image scaling aside, and back.

    Attributes
    ----------
    predict : (x_t, t_B, labels_B) → prediction, guided where the run's sampler is
    encode : images (N, C, H, W) → (N, ...) on the network's device
    decode : samples (N, ...) → images (N, C, H, W) on the host
    """

    predict: Predictor
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def runs_in(given: list[Path]) -> list[Path]:
    """The folders of runs among the given ones, and those inside them."""
    found = []
    for folder in given:
        inside = [] if (folder / "run.json").is_file() else sorted(path.parent for path in folder.glob("*/outcome.json"))
        found += inside or [folder]
    return found


def opened(folder: Path) -> tuple[Run, dict[str, Any]]:
    """The run in `folder`, and what data.json tells of its images."""
    if (folder / "rollouts.npz").is_file():
        raise UsageError(f"{folder} holds a policy, which makes no images: rollouts.gif there shows what it does")
    if lacking := [name for name in NEEDED if not (folder / name).is_file()]:
        inside = ", ".join(sorted(path.parent.name for path in folder.glob("*/outcome.json")))
        hint = f"; it holds the runs {inside}" if inside else ""
        raise UsageError(f"{folder} is not the folder of a finished run: it lacks {', '.join(lacking)}{hint}")
    try:
        return config.load_run(folder), json.loads((folder / "data.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{folder} cannot be read: {error}") from error


def model(run: Run, folder: Path, texts: tuple[str, ...], device: torch.device | str) -> Model:
    """The network of `run`, told `texts` where it is told in words, of label i the i-th."""
    objective = objectives.build(run.objective, torch.empty(0, device=device), run.max_train_steps, run.pairing.scale)
    if not isinstance(run.network, TextUNet):
        network = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True, use_safetensors=True).to(device).eval()
        return Model(objective.predictor(network), lambda x: x.to(device), Tensor.cpu)
    from immref_trainers.stable_diffusion import latents, pipeline

    parts = pipeline.load(folder, torch.device(device))
    words = latents.Words(parts, texts, run.pairing.scale)
    predict = objective.predictor(parts.unet("pretrained", 0).to(device).eval(), words.conditions)
    return Model(samplers.guided(predict, run.sampler.guidance_scale, words.unasked), words.encode, words.decode)
