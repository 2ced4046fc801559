"""The numbers of `immref bench`: what is measured, and how a number is found again. No torch, no drawing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from immref_trainers.bench.settings import Case
from immref_trainers.results import Environment

Stage = Literal["call", "solve"]

NUMPY, CPU = "NumPy", "torch cpu"
PLAIN, OFFICIAL = "plain noise", "official form, float16"
OURS, BRUTE = "immref.knn", "brute force, float32"
PRODUCT, SCIPY, LAP, EXACT, NEAR = "X Nᵀ", "SciPy", "exact, lap", "exact, SciPy", "near-exact"


@dataclass(frozen=True)
class Row:
    """One contestant in one case.

    Attributes
    ----------
    place : 'NumPy', or backend and device: 'torch cpu', 'torch cuda', 'cupy cuda', the last on torch's tensors
    stage : 'call', images in and noise out, or 'solve', the assignment of a given B × B matrix
    ms : the least time of `calls`
    times_plain, times_official : in multiples of plain noise of the same shape, and of the official form, where they ran
    peak_bytes : memory beyond what was held before, the result included; None where it cannot be measured
    drop_kept : share of the optimal drop of the mean cost; None where nothing can drop
    gap : certified share of the gain that may be missing; None where the stage does not say
    """

    case: Case
    place: str
    stage: Stage
    way: str
    ms: float
    calls: int
    times_plain: float | None
    times_official: float | None
    peak_bytes: int | None
    drop_kept: float | None
    gap: float | None


@dataclass(frozen=True)
class Record:
    """Everything that a run of `immref bench` measured.

    Attributes
    ----------
    lap : version of the module `lap`, None where it is not installed
    left_out : what was too much for this run, a sentence each
    """

    environment: Environment
    lap: str | None
    quick: bool
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    seconds: float

    @property
    def devices(self) -> tuple[str, ...]:
        """The places of tensors, the CPU first."""
        return tuple(dict.fromkeys(row.place for row in self.rows if row.place != NUMPY))

    @property
    def gpus(self) -> tuple[str, ...]:
        """The places on a GPU."""
        return tuple(place for place in self.devices if place != CPU)

    def cases(self, method: str) -> list[Case]:
        """The cases of one method in the order in which they were measured."""
        return list(dict.fromkeys(row.case for row in self.rows if row.case.method == method))

    def rows_of(self, case: Case, place: str, stage: Stage = "call") -> dict[str, Row]:
        """The contestants of one case by name."""
        return {row.way: row for row in self.rows if (row.case, row.place, row.stage) == (case, place, stage)}

    def each(self, method: str, place: str, stage: Stage = "call", **fixed: object) -> Iterator[tuple[Case, dict[str, Row]]]:
        """The cases of a method whose fields are as given, with their contestants."""
        for case in self.cases(method):
            rows = self.rows_of(case, place, stage)
            if rows and all(getattr(case, name) == value for name, value in fixed.items()):
                yield case, rows
