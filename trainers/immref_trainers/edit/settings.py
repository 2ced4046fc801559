"""What `immref edit` is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from immref._checks import check_choice
from immref_trainers.data.settings import require

Task = Literal["inpaint", "outpaint"]
TASKS: tuple[Task, ...] = ("inpaint", "outpaint")


@dataclass(frozen=True)
class Settings:
    """Which part of which images is missing, and how it is sampled."""

    task: Literal["inpaint", "outpaint", "both"] = "both"
    """inpaint: the centre of the image is missing; outpaint: all but the centre."""
    num_images: int = 256
    """Held-out images of the run's data, from the first; all where there are fewer."""
    centre: float = 0.5
    """Side of the centre, as a share of the image's."""
    steps: int | None = None
    """Of the run's sampler; the most that the run was judged by where left out."""
    resample: int = 0
    """RePaint with this many passes over every ten steps (half of them where there are fewer than twenty) instead of one blended pass."""
    seed: int = 0
    output_dir: Path | None = None
    """A new or empty folder; by default one under runs/ named after the first run and the time."""

    def __post_init__(self) -> None:
        check_choice(self.task, "task", (*TASKS, "both"))
        require(self.num_images >= 2, "num_images", "be ≥ 2", self.num_images)
        require(0 < self.centre < 1, "centre", "be in (0, 1)", self.centre)
        require(self.resample >= 0, "resample", "be ≥ 0", self.resample)
        require(0 <= self.seed < 2**63, "seed", "be in [0, 2**63)", self.seed)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One or both."""
        return TASKS if self.task == "both" else (self.task,)
