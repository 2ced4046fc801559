"""Images of a local directory for training: what it holds, how it is read, and a summary for the run's record."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from immref_trainers.data import cifar, shards, tabular, transform
from immref_trainers.data.decode import SUFFIXES, UNREADABLE
from immref_trainers.data.listing import Listing
from immref_trainers.data.settings import Directory
from immref_trainers.data.survey import Summary, each, fitted, recognised, survey
from immref_trainers.data.transform import Normalisation, Views

Array = np.ndarray[Any, Any]

SPLITS = ("train", "test", "validation", "valid", "val")
FORMATS = "CIFAR-10's .bin files, images (perhaps with metadata.jsonl), .parquet files or .tar shards"
PACKED = (".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip")


@dataclass(frozen=True)
class ImageSource:
    """The N readable images of a source, by index."""

    summary: Summary
    listing: Listing
    rows: Array
    workers: int

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index_B: Array, views: Views | None = None) -> Array:
        """Images (B, C, H, W) float32, normalised; cut at the centre and not mirrored unless `views` says otherwise."""
        rows = self._rows(index_B)
        seen = transform.centred(len(rows)) if views is None else views
        if len(seen.top) != len(rows):
            raise ValueError(f"views must be {len(rows)}, as many as indices, got {len(seen.top)}")
        ready, summary = self.listing.pixels, self.summary
        if ready is not None and ready.shape[1:] == (summary.channels, summary.height, summary.width) and summary.settings.resize is None:
            pixels = ready[rows]
        else:
            pixels = np.stack(list(each(self._pixels, self.workers, rows, seen.top, seen.left)))
        pixels[seen.mirrored] = pixels[seen.mirrored][..., ::-1]
        return summary.normalisation.apply(pixels)

    def labels(self, index_B: Array) -> Array | None:
        """Labels (B,) int64, or None where the source has none."""
        rows = self._rows(index_B)
        return None if self.listing.labels is None else self.listing.labels[rows]

    def captions(self, index_B: Array) -> list[Any] | None:
        """Captions, each a text or a list of texts, or None where the source has none."""
        rows = self._rows(index_B)
        return None if self.listing.captions is None else [self.listing.captions(int(row)) for row in rows]

    def name(self, index: int) -> str:
        """What an image is called in sentences."""
        return self.listing.name(int(self.rows[index]))

    def _rows(self, index_B: Array) -> Array:
        """Rows of the listing."""
        index = np.asarray(index_B)
        if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
            raise TypeError(f"indices must be one or more integers (B,), got {index.dtype} {index.shape}")
        if index.min() < 0 or index.max() >= len(self):
            raise ValueError(f"indices must be in [0, {len(self)}), got {index.min()} … {index.max()}")
        rows: Array = self.rows[index]
        return rows

    def _pixels(self, row: int, top: float, left: float) -> Array:
        """One image (C, H, W) uint8."""
        try:
            image = self.listing.image(int(row)).convert("L" if self.summary.channels == 1 else "RGB")
        except UNREADABLE as error:
            raise ValueError(f"{self.listing.name(int(row))} could be read before and now cannot: {error}") from error
        pixels = transform.to_array(fitted(image, self.summary.settings, top, left))
        if pixels.shape[1:] != (self.summary.height, self.summary.width):
            raise ValueError(f"{self.listing.name(int(row))} had another size before, got {image.width}×{image.height}")
        return pixels


def open_images(
    settings: Directory,
    *,
    normalisation: Normalisation | None = None,
    known: Summary | None = None,
    workers: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> ImageSource:
    """Open the images of a directory, reading each once: a damaged one is found now and not at step 31,337.

    Parameters
    ----------
    settings : Directory
    normalisation : Normalisation, optional
        Constants measured before: held-out images take those of the training images.
    known : Summary, optional
        From an earlier opening of the same images with the same settings: they are not read again.
    workers : int ≥ 1
        Threads that decode; the numbers do not depend on it.
    watch : function of (images read, images listed), called after each

    Raises
    ------
    ValueError
        Naming the directory or the image, what is wrong with it and what is wanted.
    """
    if workers < 1:
        raise ValueError(f"workers must be ≥ 1, got {workers}")
    listing = listed(settings)
    summary = survey(listing, settings, normalisation, workers, watch) if known is None else recognised(known, listing, settings)
    left_out = {one.name for one in summary.unreadable}
    rows = np.asarray([row for row in range(listing.count) if not left_out or listing.name(row) not in left_out])
    return ImageSource(summary, listing, rows, workers)


def listed(settings: Directory) -> Listing:
    """What the directory holds, found by the names of its files."""
    if not settings.train_data_dir:
        raise ValueError("data.train_data_dir must be given, the local directory with the images")
    folder = Path(settings.train_data_dir)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"train_data_dir: pass a local directory, {folder} {kind}; names on the Hub are not downloaded")
    every = [
        file for file in folder.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    names = {file.name for file in every}
    binary = [file for file in every if file.name in (*cifar.FILES["train"], *cifar.FILES["test"])]
    if not binary and {"data_batch_1", "test_batch"} & names:
        raise ValueError(
            f"{folder} holds CIFAR-10 as Python pickles, which are not opened; wanted its binary version, cifar-10-binary.tar.gz"
        )
    kinds = {
        "CIFAR-10": binary,
        "images": [file for file in every if file.suffix.lower() in SUFFIXES or file.name in tabular.METADATA],
        "parquet": [file for file in every if file.suffix == ".parquet" and file.name not in tabular.METADATA],
        "shards": [file for file in every if file.suffix == ".tar"],
    }
    found = [kind for kind, files in kinds.items() if files]
    if not found:
        packed = sorted(name for name in names if name.endswith(PACKED))
        hint = f"; it holds {packed[0]}: unpack it" if packed else ""
        raise ValueError(f"{folder} holds no images; wanted {FORMATS}{hint}")
    if len(found) > 1:
        raise ValueError(f"{folder} must hold one kind of data, got {' and '.join(found)}; pass one of its folders")
    if binary:
        places = sorted({file.parent for file in binary})
        if len(places) > 1:
            raise ValueError(f"{folder} must hold CIFAR-10 once, got {' and '.join(map(str, places))}; pass one of them")
        return cifar.listing(places[0], settings)
    files = part(folder, sorted(kinds[found[0]]), settings.split)
    reader = {"images": tabular.folders, "parquet": tabular.parquet, "shards": shards.listing}[found[0]]
    listing = reader(folder, files, settings)
    if listing.count == 0:
        raise ValueError(f"{folder} holds no images: its {found[0]} are empty")
    return listing


def part(folder: Path, files: list[Path], split: str) -> list[Path]:
    """The files of one split: those in the folder of that name, or whose names begin with it; all, where there are no splits."""
    of = splits(folder, files)
    present = sorted(set(of) - {""})
    if not present and split == "train":
        return files
    if split not in present:
        raise ValueError(f"split must be one of {', '.join(present) or 'train'} for {folder}, got {split!r}")
    if "" in of:
        raise ValueError(f"{files[of.index('')].relative_to(folder)} belongs to none of the splits of {folder}: {', '.join(present)}")
    return [file for file, name in zip(files, of, strict=True) if name == split]


def splits(folder: Path, files: list[Path]) -> list[str]:
    """The split of each file, '' for none: by folders where at some depth all folders have the names of splits, else by names."""
    parts = [file.relative_to(folder).parts for file in files]
    data = [place for place in parts if place[-1] not in tabular.METADATA]
    for depth in range(min(map(len, data), default=1) - 1):
        if {place[depth] for place in data} <= set(SPLITS):
            return [place[depth] if len(place) > depth + 1 else "" for place in parts]
    begins = [
        place[-1].replace("_", "-").replace(".", "-").partition("-")[0] if place[-1].endswith((".parquet", ".tar")) else ""
        for place in parts
    ]
    return [name if name in SPLITS else "" for name in begins]
