"""What `immref analyze RUN…` can be told. No torch: the command line reads this first."""

from dataclasses import dataclass
from pathlib import Path

from immref_trainers.data.settings import require


@dataclass(frozen=True)
class Settings:
    """Why does a pairing help, or not: the paper's step-by-step analysis of finished runs."""

    output_dir: Path | None = None
    """A new or empty folder; by default one under runs/ named after the first run and the time."""
    num_samples: int = 1_000
    """Samples whose predicted images are judged layer by layer."""
    num_paths: int = 128
    """Noises whose predicted images are followed through the layers; the paper's 128."""
    num_perturbed: int = 32
    """Noises that are perturbed, ten times at each weight."""
    num_images: int = 100
    """Images whose noise clusters are measured; the paper's 100."""
    num_noises: int = 1_000
    """Noises of each of them; the paper's are 10,000."""
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_samples": 100, "num_paths": 2, "num_perturbed": 2, "num_images": 6, "num_noises": 100, "seed": 0}
        for name, low in least.items():
            require(getattr(self, name) >= low, name, f"be ≥ {low}", getattr(self, name))
