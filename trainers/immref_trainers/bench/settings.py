"""What `immref bench` can be told, and the shapes that follow from it. No torch: the command line reads this first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from immref._checks import check_int

PIXELS, LATENTS, LARGE = 3 * 32 * 32, 4 * 32 * 32, 4 * 64 * 64  # numbers an image
PHOTOS, NORMAL, REPEATED, EQUAL = "photos", "normal", "photos ×4", "one photo"


@dataclass(frozen=True)
class Settings:
    """What pairing costs on this machine, beside the paper's Table 5."""

    quick: bool = False
    """Batches up to 512 only: half a minute instead of several."""
    output_dir: Path | None = None
    """A new or empty folder for bench.json, bench.png and bench.txt; where left out the tables are only printed."""
    threads: int | None = None
    """Threads that torch computes with; its own choice where left out."""

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_int(self.threads, "threads", 1)


@dataclass(frozen=True)
class Case:
    """One shape of one method; `k` belongs to KNN, `cost` to linear assignment."""

    method: Literal["knn", "linear_assignment"]
    batch: int
    dimension: int
    k: int | None = None
    cost: Literal["l2", "sqeuclidean"] | None = None
    data: str = NORMAL

    def __str__(self) -> str:
        if self.method == "knn":
            return f"KNN, batch {self.batch}, D {self.dimension}, k {self.k}"
        return f"assignment, batch {self.batch}, D {self.dimension}, {self.cost}, {self.data}"

    @property
    def work(self) -> float:
        """About how long it takes, in parts of the smallest case: what the bar's ETA goes by."""
        return 1 + (self.batch * self.dimension * (self.k or 0) / 2e7 if self.method == "knn" else 2 + (self.batch / 512) ** 2.3)


@dataclass(frozen=True)
class Plan:
    """The cases, and what is too much for this run.

    Attributes
    ----------
    cases : in the order in which they are measured
    seconds : a contestant that has taken this long in a case is not called again
    most_numbers : KNN that draws its candidates is left out where they are more numbers
    most_scipy : SciPy without an auction before it is left out at larger batches
    """

    cases: tuple[Case, ...]
    seconds: float
    most_numbers: int
    most_scipy: int


def plan(quick: bool) -> Plan:
    """What is measured: batches to 4,096, or to 512 where it has to be quick."""
    batches = (128, 256, 512) if quick else (128, 256, 512, 1024, 2048, 4096)
    cases = [Case("knn", batch, PIXELS, k=8) for batch in batches]
    cases += [Case("knn", batch, LATENTS, k=64) for batch in batches]
    cases += [Case("knn", 64, LARGE, k=64), Case("knn", 64, PIXELS, k=1024)]
    cases += [_assignment(batch, cost, PHOTOS) for cost in ("l2", "sqeuclidean") for batch in batches]
    cases += [_assignment(batch, cost, NORMAL) for cost in ("l2", "sqeuclidean") for batch in batches if 256 <= batch <= 2048]
    cases += [_assignment(min(1024, max(batches)), cost, data) for data in (REPEATED, EQUAL) for cost in ("l2", "sqeuclidean")]
    return Plan(
        tuple(cases),
        seconds=0.03 if quick else 0.15,
        most_numbers=2**26 if quick else 2**29,
        most_scipy=512 if quick else 2048,
    )


def _assignment(batch: int, cost: Literal["l2", "sqeuclidean"], data: str) -> Case:
    return Case("linear_assignment", batch, PIXELS, cost=cost, data=data)
