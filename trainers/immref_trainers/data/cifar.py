"""CIFAR-10 from its binary version: files of 10,000 records, each a label byte and 3 × 32 × 32 pixels. No pickles."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from immref_trainers.data.listing import Listing, column
from immref_trainers.data.settings import Directory

Array = np.ndarray[Any, Any]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
RECORDS = 10_000  # of a file
PIXELS = 3 * 32 * 32


def listing(folder: Path, settings: Directory) -> Listing:
    """The training or the test images of the folder that holds the .bin files."""
    if settings.split not in FILES:
        raise ValueError(f"split must be train or test for CIFAR-10, got {settings.split!r}")
    column("image_column", settings.image_column, "image", ("image", "label"))
    column("label_column", settings.label_column, "label", ("image", "label"))
    column("caption_column", settings.caption_column, "text", ("image", "label"))
    records = np.concatenate([read(folder / file) for file in FILES[settings.split]])

    pixels = records[:, 1:].reshape(-1, 3, 32, 32)

    def image(row: int) -> Image.Image:
        return Image.fromarray(pixels[row].transpose(1, 2, 0))

    def name(row: int) -> str:
        return f"{FILES[settings.split][row // RECORDS]} record {row % RECORDS}"

    return Listing(len(records), name, image, records[:, 0].astype(np.int64), CLASSES, pixels=pixels)


def read(file: Path) -> Array:
    """The records (10,000, 3,073) uint8 of one file."""
    if not file.exists():
        raise ValueError(f"{file.parent} lacks {file.name}; CIFAR-10's binary version has {', '.join(sum(FILES.values(), ()))}")
    size, wanted = file.stat().st_size, RECORDS * (1 + PIXELS)
    if size != wanted:
        raise ValueError(f"{file.name} must have {wanted:,} bytes, {RECORDS:,} records of {1 + PIXELS:,}, got {size:,}")
    records = np.fromfile(file, dtype=np.uint8).reshape(RECORDS, 1 + PIXELS)
    if records[:, 0].max() > 9:
        row = int(np.argmax(records[:, 0] > 9))
        raise ValueError(f"labels of {file.name} must be in 0 … 9, got {records[row, 0]} at record {row}")
    return records
