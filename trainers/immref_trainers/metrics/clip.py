"""CLIPScore over a local CLIP model: 100 times the cosine between an image and the text that it was asked for by.

Hessel et al. 2021 without their factor of 2.5; the paper's numbers (Section 4.3) are of this size.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

FloatArray = np.ndarray[Any, Any]

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
AT_ONCE = 100  # images that the model sees at once


class Clip:
    """A CLIP model of a local directory.

    Raises
    ------
    ValueError
        Where a file of the directory is missing.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        check(folder)
        local = {"local_files_only": True, "use_safetensors": True}
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32, **local).to(device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        self.mean, self.std = (torch.tensor(settings[name], device=device).reshape(3, 1, 1) for name in ("image_mean", "image_std"))
        self.side, self.device = int(self.model.config.vision_config.image_size), device

    def similarity(self, images: FloatArray, texts: Sequence[str]) -> FloatArray:
        """100 cos (N,) of images (N, 3, H, W) in [-1, 1], beyond which they are clipped, and their texts, cut to the model's length."""
        found = []
        for start in range(0, len(images), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            x, words = self.images(torch.from_numpy(images[rows]).to(self.device)), self.texts(texts[rows])
            found.append(100 * (x * words).sum(dim=1).cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def images(self, x: Tensor) -> Tensor:
        """Directions (N, D) of images (N, 3, H, W): the shorter side made the model's, the middle cut out."""
        factor = self.side / min(x.shape[2:])
        if factor != 1:
            size = [max(self.side, round(side * factor)) for side in x.shape[2:]]
            x = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
        top, left = ((side - self.side) // 2 for side in x.shape[2:])
        x = x[..., top : top + self.side, left : left + self.side].clamp(-1, 1) / 2 + 0.5
        seen = self.model.vision_model(pixel_values=(x - self.mean) / self.std).pooler_output
        return torch.nn.functional.normalize(self.model.visual_projection(seen), dim=1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Directions (N, D) of texts."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt").to(self.device)
        read = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        return torch.nn.functional.normalize(self.model.text_projection(read), dim=1)


def check(folder: Path) -> None:
    """A ValueError where a file of a CLIP model is missing."""
    if lacking := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"evaluation.clip must be a local directory with a CLIP model, {folder} lacks {', '.join(lacking)}")
