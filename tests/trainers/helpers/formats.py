"""A dozen small images, written in the formats that users have."""

import io
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from immref_trainers.data import cifar, transform

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 6), dtype=np.uint8)
LABELS = np.arange(12) % 3
NAMES = ("ant", "bee", "cow")
ALL = np.arange(12)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]).save(file, kind)
    return file.getvalue()


def folders(path, pixels=PIXELS, kind="png"):
    """Class folders; the images sort by label, so their order is ALL[np.argsort(LABELS, stable)]."""
    for row, image in enumerate(pixels):
        place = path / NAMES[LABELS[row]]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:02}.{kind}").write_bytes(encoded(image, {"png": "PNG", "jpg": "JPEG"}[kind]))
    return path


SORTED = np.argsort(LABELS, kind="stable")


def binary(path, labels=None):
    """CIFAR-10's binary version with 4 records a file."""
    path.mkdir(parents=True, exist_ok=True)
    records = np.random.default_rng(3).integers(0, 256, (6, 4, 3073), dtype=np.uint8)
    records[:, :, 0] = np.arange(24).reshape(6, 4) % 10 if labels is None else labels
    for file, rows in zip((*cifar.FILES["train"], *cifar.FILES["test"]), records, strict=True):
        (path / file).write_bytes(rows.tobytes())
    return records


def table(path, file="data.parquet", rows=ALL, pixels=PIXELS, **columns):
    path.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(
        pyarrow.table({"image": [encoded(pixels[row]) for row in rows], "label": LABELS[rows].tolist()} | columns), path / file
    )
    return path


def shard(path, rows, file="shard-0.tar", extra=(), pixels=PIXELS):
    """A tar with an image, a label and a caption for each row."""
    path.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path / file, "w") as archive:
        for row in rows:
            members = {"png": encoded(pixels[row]), "cls": str(LABELS[row]).encode(), "txt": f"picture {row}".encode()}
            for suffix, content in members.items():
                added(archive, f"{row:03}.{suffix}", content)
        for name, content in extra:
            added(archive, name, content)
    return path


def added(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def ranged(pixels):
    return transform.RANGE.apply(pixels)
