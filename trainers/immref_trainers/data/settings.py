"""Which images a run trains on, and what is done to them: plain settings that `run.json` can hold."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageData:
    """Images of a local directory."""

    train_data_dir: str
    """CIFAR-10's binary version, class folders, parquet files or webdataset shards."""
    split: str = "train"
    """Where the directory has parts, as train/ and test/ or train-00000.parquet and test-00000.parquet: the part to take."""
    image_column: str = "image"
    label_column: str | None = None
    """Without it, the column 'label' where there is one."""
    caption_column: str | None = None
    """Without it, the column 'text' where there is one."""
    resolution: int | None = None
    """Cut to this square; without it, all images must have one size."""
    resize: int | None = None
    """The shorter side before the cut, at least `resolution`, which it is when not given."""
    channels: Literal[1, 3] | None = None
    """1 turns colour to grey, 3 repeats grey three times; without it, 1 if every image is grey, else 3."""
    normalisation: Literal["range", "unit_std"] = "range"
    """To [-1, 1], or minus the mean and divided by the standard deviation of all the pixels."""
    random_flip: bool = False
    """Mirror every other image left to right."""
    random_crop: bool = False
    """Cut at a random place instead of the centre."""
    max_unreadable: float = 0.0
    """The share of unreadable images, in [0, 1), that may be left out."""

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution must be ≥ 1, got {self.resolution}")
        if self.resize is not None and (self.resolution is None or self.resize < self.resolution):
            raise ValueError(f"resize must be at least resolution, got {self.resize} with resolution {self.resolution}")
        if self.random_crop and self.resolution is None:
            raise ValueError("random_crop needs resolution, the size of the square to cut")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, or be left out, got {self.channels}")
        if self.normalisation not in ("range", "unit_std"):
            raise ValueError(f"normalisation must be range or unit_std, got {self.normalisation!r}")
        if not 0 <= self.max_unreadable < 1:
            raise ValueError(f"max_unreadable must be in [0, 1), got {self.max_unreadable}")
