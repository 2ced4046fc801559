"""A local directory as training and held-out images, seen as (seed, epoch, index) say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from immref_trainers.data import sources, transform
from immref_trainers.data.settings import Directory
from immref_trainers.data.sources import ImageSource
from immref_trainers.data.training import SPLIT_SEED, Images, Watch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """Rows (N,) of an opened directory; `seed` decides how augmented images are seen."""

    source: ImageSource
    rows: Array
    seed: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        summary = self.source.summary
        return summary.channels, summary.height, summary.width

    @property
    def largest(self) -> float:
        """Of the values that black and white have."""
        return max(abs(value) for value in ends(self.source))

    @property
    def augmented(self) -> bool:
        """Where they are mirrored or cut."""
        settings = self.source.summary.settings
        return settings.random_flip or settings.random_crop

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:
        """Images (B, C, H, W) float32, cut and mirrored as their epochs say; without epochs the centre, not mirrored."""
        settings = self.source.summary.settings
        views = None
        if epoch_B is not None:
            switched = {"random_crop": settings.random_crop, "random_flip": settings.random_flip}
            views = transform.views(len(self), self.seed, epoch_B, index_B, **switched)
        return self.source.images(self.rows[index_B], views)

    def labels(self, index_B: Array, epoch_B: Array | None = None) -> Array | None:  # noqa: ARG002
        """Labels (B,) int64, or None; every epoch sees the same."""
        return self.source.labels(self.rows[index_B])

    def captions(self, index_B: Array) -> list[tuple[str, ...]] | None:
        """One caption or several of each image, or None; a ValueError where an image has none that says anything."""
        rows = self.rows[index_B]
        found = self.source.captions(rows)
        if found is None:
            return None
        texts = [(one,) if isinstance(one, str) else tuple(one or ()) for one in found]
        mute = [row for row, some in zip(rows.tolist(), texts, strict=True) if not some or not all(_says(text) for text in some)]
        if mute:
            first = self.source.name(mute[0])
            raise ValueError(f"every image must have a caption, a text or a list of texts; {len(mute)} have none, the first {first}")
        return texts


def load(settings: Directory, seed: int, workers: int, watch: Watch | None) -> Images:
    """Every image is read once; held-out images are normalised as those for training."""
    source = sources.open_images(settings, workers=workers, watch=watch)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(source))
    if settings.held_out_split is None:
        if settings.held_out > len(source) - 2:
            raise ValueError(f"data.held_out must leave 2 images on either side, at most {len(source) - 2}, got {settings.held_out}")
        held = Part(source, np.sort(order[: settings.held_out]), seed)
        order = order[settings.held_out :]
    else:
        unseen = sources.open_images(
            replace(settings, split=settings.held_out_split, held_out_split=None),
            normalisation=source.summary.normalisation,
            workers=workers,
            watch=watch,
        )
        held = Part(unseen, np.arange(len(unseen)), seed)
    train = Part(source, np.sort(order), seed)
    if held.shape != train.shape:
        raise ValueError(f"held-out images must have the shape of the others, {train.shape}, got {held.shape}; set data.resolution")
    labels = source.labels(np.arange(len(source)))
    low, high = ends(source)
    names = source.summary.classes
    if settings.class_names is not None:
        names = called(Path(settings.class_names), names)
    return Images(train, held, 0 if labels is None else max(len(names), int(labels.max()) + 1), low, high, names)


def called(file: Path, folders: tuple[str, ...]) -> tuple[str, ...]:
    """The names of class folders by a text file with a line for each: the folder, a space, what it is called."""
    if not file.is_file():
        raise ValueError(f"data.class_names must be a text file, {file} {'is a folder' if file.is_dir() else 'does not exist'}")
    lines = [line.strip().partition(" ") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = {folder: name.strip() for folder, _, name in lines}
    if nameless := [folder for folder in folders if not names.get(folder)]:
        raise ValueError(f"data.class_names must name every class, {file} lacks {len(nameless)} of {len(folders)}, the first {nameless[0]}")
    return tuple(names[folder] for folder in folders)


def _says(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def ends(source: ImageSource) -> tuple[float, float]:
    """The values of black and white."""
    low, high = source.summary.normalisation.apply(np.asarray([0, 255], dtype=np.uint8)).tolist()
    return low, high
