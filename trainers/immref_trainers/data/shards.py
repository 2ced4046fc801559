"""Webdataset shards: tar files whose members with one name up to the first dot are a sample. Read in place, by an index."""

import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from immref_trainers.data.decode import SUFFIXES, decode
from immref_trainers.data.listing import Listing, column, numbered
from immref_trainers.data.settings import Directory

TEXTS = {".cls": "label", ".txt": "text"}
END = bytes(1024)  # two empty blocks close an archive


@dataclass
class Sample:
    """One sample: where its image lies in its shard, and what its small members say."""

    name: str
    shard: Path
    start: int = 0
    size: int = 0
    texts: dict[str, str] = field(default_factory=dict)


def listing(folder: Path, files: list[Path], settings: Directory) -> Listing:
    """Samples of the shards in order: an image each; where one has a label .cls (an integer) or a caption .txt, all must."""
    samples = [sample for file in files for sample in index(folder, file)]

    def name(row: int) -> str:
        return samples[row].name

    def image(row: int) -> Image.Image:
        sample = samples[row]
        with sample.shard.open("rb") as shard:
            shard.seek(sample.start)
            return decode(shard.read(sample.size))

    columns = ["image", *(key for key in TEXTS.values() if any(key in sample.texts for sample in samples))]
    if column("image_column", settings.image_column, "image", columns) != "image":
        raise ValueError(f"image_column must be image for shards, got {settings.image_column!r}")
    labels = column("label_column", settings.label_column, "label", columns)
    captions = column("caption_column", settings.caption_column, "text", columns)
    for key in (labels, captions):
        if key is not None and (without := [sample.name for sample in samples if key not in sample.texts]):
            raise ValueError(f"{without[0]} has no {key}, other samples have")
    found: dict[str, Any] = {}
    if labels is not None:
        numbers = [whole(sample, labels) for sample in samples]
        found["labels"], found["classes"] = numbered(f"label_column {labels!r}", numbers, (), name)
    if captions is not None:
        found["captions"] = lambda row: samples[row].texts[captions]
    return Listing(len(samples), name, image, **found)


def index(folder: Path, file: Path) -> list[Sample]:
    """The samples of one shard; its headers are read once, its images not at all."""
    samples: dict[str, Sample] = {}
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                place, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                key = f"{place}/{stem}" if place else stem
                sample = samples.setdefault(key, Sample(f"{file.relative_to(folder)}: {key}", file))
                suffix = (dot + suffix).lower()
                if suffix in SUFFIXES and sample.start:
                    raise ValueError(f"{sample.name} has two images")
                if suffix in SUFFIXES:
                    sample.start, sample.size = member.offset_data, member.size
                elif suffix in TEXTS:
                    raw.seek(member.offset_data)
                    sample.texts[TEXTS[suffix]] = raw.read(member.size).decode("utf-8").strip()
            raw.seek(-min(len(END), file.stat().st_size), 2)
            if raw.read() != END:
                raise ValueError(f"{file.name} does not end as an archive does: it was cut short")
    except tarfile.TarError as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    except UnicodeDecodeError:
        raise ValueError(f"texts of {file.name} must be UTF-8; {sample.name} is not") from None
    if without := [sample.name for sample in samples.values() if not sample.start]:
        raise ValueError(f"{without[0]} has no image; wanted one of {', '.join(SUFFIXES)}")
    return list(samples.values())


def whole(sample: Sample, key: str) -> int:
    """The label of a sample."""
    try:
        return int(sample.texts[key])
    except ValueError:
        raise ValueError(f"the label of {sample.name} must be an integer, got {sample.texts[key]!r}") from None
