"""Which images a run trains on, and what is done to them: plain settings that `run.json` can hold."""

import math
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits, 8×8."""

    dataset_name: Literal["digits"] = "digits"
    pixel_std: float = 0.5
    """Images are shifted by their global mean and divided so that pixels have this standard deviation."""
    held_out: int = 297
    """Images kept from training: for the matched prior and for a metric on unseen data."""

    def __post_init__(self) -> None:
        require(self.held_out >= 2, "data.held_out", "leave 2 digits on either side", self.held_out)
        require(0 < self.pixel_std < math.inf, "data.pixel_std", "be finite and > 0", self.pixel_std)


@dataclass(frozen=True)
class Photos:
    """Square patches of the two photographs shipped inside scikit-learn."""

    dataset_name: Literal["photos"] = "photos"
    size: int = 16
    patches: int = 20_000
    """Patches to train on, drawn once."""
    pixel_std: float = 0.5
    """Patches are shifted by the photographs' mean and divided so that their pixels have this standard deviation."""
    held_out: int = 2_000
    """Patches of columns of the photographs that training never sees."""

    def __post_init__(self) -> None:
        require(8 <= self.size <= 40, "data.size", "be in [8, 40]", self.size)
        require(self.patches >= 2, "data.patches", "be ≥ 2", self.patches)
        require(self.held_out >= 2, "data.held_out", "be ≥ 2", self.held_out)
        require(0 < self.pixel_std < math.inf, "data.pixel_std", "be finite and > 0", self.pixel_std)


@dataclass(frozen=True)
class CaptionedDigits:
    """scikit-learn's digits in [-1, 1], enlarged to 16×16, in three equal colours, with names to ask for them by."""

    dataset_name: Literal["captioned-digits"] = "captioned-digits"
    held_out: int = 297
    """Images kept from training: for the matched prior and for a metric on unseen data."""

    def __post_init__(self) -> None:
        require(2 <= self.held_out <= 1795, "data.held_out", "leave 2 digits on either side", self.held_out)


@dataclass(frozen=True)
class PushT:
    """Demonstrations of PushT, whose action chunks a policy learns to draw as other runs do images."""

    dataset_name: Literal["pusht"] = "pusht"
    train_data_dir: str | None = None
    """The original zarr replay buffer (a folder or .zip) or LeRobot's parquet files; without it, a planner makes demonstrations."""
    episodes: int = 200
    """Demonstrations that the planner makes."""
    starts: Literal["anywhere", "near"] = "anywhere"
    """Where the T lies at first, in planned demonstrations and in roll-outs: near is within 70 pixels and 0.7 radians of the goal."""
    action_noise: float = 4.0
    """Pixels (standard deviation) by which the planner's executed actions differ from those that are recorded."""
    observations: Literal["keypoints", "state"] = "keypoints"
    """What a policy sees of the T: its eight corners, or its position and the cosine and sine of its angle; and the agent's position."""
    horizon: int = 16
    """Steps of an action chunk."""
    seen: int = 2
    """Observations that a chunk is drawn for; its first action goes with the first of them."""
    executed: int = 8
    """Actions of a chunk that are executed, from the last observation on."""
    held_out: int = 4
    """Episodes kept from training, on which predicted actions are compared with the demonstrated ones."""

    def __post_init__(self) -> None:
        require(self.held_out >= 1, "data.held_out", "be ≥ 1", self.held_out)
        if self.train_data_dir is None:
            require(self.held_out < self.episodes, "data.held_out", f"be less than data.episodes={self.episodes}", self.held_out)
        require(self.starts in ("anywhere", "near"), "data.starts", "be anywhere or near", repr(self.starts))
        require(0 <= self.action_noise < math.inf, "data.action_noise", "be finite and ≥ 0", self.action_noise)
        require(self.observations in ("keypoints", "state"), "data.observations", "be keypoints or state", repr(self.observations))
        require(self.seen >= 1, "data.seen", "be ≥ 1", self.seen)
        most = self.horizon - self.seen + 1
        require(1 <= self.executed <= most, "data.executed", f"be in [1, horizon - seen + 1 = {most}]", self.executed)


@dataclass(frozen=True)
class Directory:
    """Images of a local directory."""

    dataset_name: Literal["directory"] = "directory"
    train_data_dir: str = ""
    """CIFAR-10's binary version, class folders, parquet files or webdataset shards."""
    split: str = "train"
    """Where the directory has parts, as train/ and test/ or train-00000.parquet and test-00000.parquet: the part to take."""
    image_column: str = "image"
    label_column: str | None = None
    """Without it, the column 'label' where there is one."""
    caption_column: str | None = None
    """Without it, the column 'text' where there is one."""
    class_names: str | None = None
    """A text file with a line per class, 'n01440764 tench, Tinca tinca': what prompts call a class that its folder does not name."""
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
    held_out_split: str | None = None
    """The part to judge unseen images by; without it, `held_out` images are kept from training."""
    held_out: int = 500

    def __post_init__(self) -> None:
        resolution, resize = self.resolution, self.resize
        require(resolution is None or resolution >= 1, "data.resolution", "be ≥ 1", resolution)
        wanted = f"be at least data.resolution, which is {resolution}"
        require(resize is None or (resolution is not None and resize >= resolution), "data.resize", wanted, resize)
        require(resolution is not None or not self.random_crop, "data.resolution", "be given with random_crop", resolution)
        require(self.channels in (None, 1, 3), "data.channels", "be 1 or 3, or be left out", self.channels)
        require(self.normalisation in ("range", "unit_std"), "data.normalisation", "be range or unit_std", repr(self.normalisation))
        require(0 <= self.max_unreadable < 1, "data.max_unreadable", "be in [0, 1)", self.max_unreadable)
        require(self.held_out >= 2, "data.held_out", "be ≥ 2", self.held_out)
        require(self.held_out_split != self.split, "data.held_out_split", f"differ from data.split, {self.split}", self.held_out_split)


def require(holds: bool, name: str, wanted: str, value: Any) -> None:
    """The sentence for a setting that cannot work."""
    if not holds:
        raise ValueError(f"{name} must {wanted}, got {value}")
