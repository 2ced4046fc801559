"""What the algorithms set out to reach on a CPU, held against what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from immref_trainers.bench.results import CPU, EXACT, LAP, NEAR, NUMPY, OFFICIAL, OURS, SCIPY, Record, Row, Stage
from immref_trainers.bench.settings import EQUAL, LARGE, LATENTS, NORMAL, PHOTOS, PIXELS, REPEATED, Case

MOST_TIMES_PLAIN = ((NUMPY, 8, 1.5), (NUMPY, 64, 1.5), (CPU, 8, 2.0), (CPU, 64, 2.0), (NUMPY, 1024, 3.0), (CPU, 1024, 3.0))
LEAST_TIMES_FASTER = ((1024, PIXELS, 8, 10.0), (2048, LATENTS, 64, 40.0))  # batch, D, k: than the official form
MOST_MEMORY = 2.0  # times the noise
MEMORY_AT = (256, LATENTS, 64)
SOLVERS = (  # cost, way, rival, batch, how many times faster at least
    ("sqeuclidean", EXACT, OFFICIAL, 1024, 2.0),
    ("sqeuclidean", LAP, OFFICIAL, 1024, 12.0),
    ("sqeuclidean", LAP, SCIPY, 1024, 7.0),
    ("sqeuclidean", LAP, SCIPY, 2048, 10.0),
    ("l2", EXACT, OFFICIAL, 1024, 2.0),
    ("l2", LAP, OFFICIAL, 1024, 12.0),
    ("l2", LAP, SCIPY, 1024, 7.0),
    ("l2", LAP, SCIPY, 2048, 10.0),
    ("sqeuclidean", NEAR, SCIPY, 1024, 8.0),
    ("sqeuclidean", NEAR, SCIPY, 2048, 25.0),
    ("l2", NEAR, SCIPY, 1024, 8.0),
    ("l2", NEAR, SCIPY, 2048, 25.0),
)
LEAST_KEPT, MOST_GAP = 0.99, 0.02  # near-exact
MOST_TIMES_SCIPY = 1.5  # with duplicates
MOST_TIMES_FUSED = 1.5  # on a GPU
FUSED = ((1024, PIXELS, 8), (2048, LATENTS, 64), (64, LARGE, 64))  # batch, D, k
LEAST_TIMES_CPU = 5.0  # a GPU's auction


@dataclass(frozen=True)
class Target:
    """A goal, what was found, and whether that is enough."""

    goal: str
    found: str
    verdict: Literal["met", "missed", "not run"]


def targets(record: Record) -> list[Target]:
    """Every target that a CPU can be held to."""
    return [*_knn(record), *_solvers(record), *_near_exact(record), *_duplicates(record)]


def on_gpu(record: Record) -> list[Target]:
    """Every target that a GPU can be held to; none where none was measured."""
    fused = [target for place in record.gpus if place.startswith("cupy") for target in _fused(record, place)]
    return [*fused, *(target for place in record.gpus for target in _auction_on_gpu(record, place))]


def _fused(record: Record, place: str) -> Iterator[Target]:
    """KNN in one kernel, in multiples of torch's plain noise; torch itself starts some fifteen kernels, and has no target."""
    for batch, dimension, k in FUSED:
        rows = record.rows_of(Case("knn", batch, dimension, k=k), place)
        times = {Case("knn", batch, dimension, k=k): rows[OURS].times_plain} if rows else {}
        yield _largest(
            f"KNN, {place}, {batch} × {dimension}, k {k}: ≤ {MOST_TIMES_FUSED:g} × plain noise", times, MOST_TIMES_FUSED, "{:.2f} ×"
        )


def _auction_on_gpu(record: Record, place: str) -> Iterator[Target]:
    """The near-exact solver on the device against the same on the CPU of the machine, whole calls."""
    for case, rows in record.each("linear_assignment", place, data=PHOTOS):
        if case.batch >= 1024:
            rows = {NEAR: rows[NEAR], f"{NEAR} on the CPU": record.rows_of(case, CPU)[NEAR]}
            goal = f"{NEAR}, {place}, {case.cost}, batch {case.batch}: ≥ {LEAST_TIMES_CPU:g} × the CPU"
            yield _faster(goal, rows, NEAR, f"{NEAR} on the CPU", LEAST_TIMES_CPU)


def _knn(record: Record) -> Iterator[Target]:
    """Time in multiples of plain noise and against the official form; memory."""
    for place, k, most in MOST_TIMES_PLAIN:
        found = {case: rows[OURS].times_plain for case, rows in record.each("knn", place, k=k)}
        yield _largest(f"KNN, {place}, k {k}, every shape: ≤ {most:g} × plain noise", found, most, "{:.2f} ×")
    for place in (NUMPY, CPU):
        batch, dimension, k = MEMORY_AT
        rows = record.rows_of(Case("knn", batch, dimension, k=k), place)
        peak = rows[OURS].peak_bytes if rows else None
        times = {} if peak is None else {Case("knn", batch, dimension, k=k): peak / (4 * batch * dimension)}
        yield _largest(f"KNN, {place}, {batch} × {dimension}, k {k}: peak ≤ {MOST_MEMORY:g} × the noise", times, MOST_MEMORY, "{:.2f} ×")
    for batch, dimension, k, least in LEAST_TIMES_FASTER:
        goal = f"KNN, {CPU}, {batch} × {dimension}, k {k}: ≥ {least:g} × official form"
        yield _faster(goal, record.rows_of(Case("knn", batch, dimension, k=k), CPU), OURS, OFFICIAL, least)


def _solvers(record: Record) -> Iterator[Target]:
    """Solvers alone on photographs, the whole call beside them."""
    for cost, way, rival, batch, least in SOLVERS:
        found = [
            record.rows_of(case, CPU, "solve") for case, _ in record.each("linear_assignment", CPU, batch=batch, cost=cost, data=PHOTOS)
        ]
        calls = [rows for _, rows in record.each("linear_assignment", CPU, batch=batch, cost=cost, data=PHOTOS)]
        goal = f"{way}, {cost}, batch {batch}: ≥ {least:g} × {rival.removesuffix(', float16')}"
        yield _faster(goal, found[0] if found else {}, way, rival, least, calls[0] if calls else {})


def _near_exact(record: Record) -> Iterator[Target]:
    """What the near-exact solver keeps, and what it certifies, on images without duplicates."""
    for cost in ("l2", "sqeuclidean"):
        kept, gaps = (
            {case: value for data in (PHOTOS, NORMAL) for case, value in _values(record, stage, cost, data)} for stage in ("call", "solve")
        )
        lost = {case: 1 - value for case, value in kept.items()}
        yield _largest(f"near-exact, {cost}, every batch: ≥ {LEAST_KEPT:.0%} of the drop", lost, 1 - LEAST_KEPT, "{:.2%} lost")
        yield _largest(f"near-exact, {cost}, every batch: certified gap ≤ {MOST_GAP:.0%}", gaps, MOST_GAP, "{:.2%}")


def _values(record: Record, stage: Stage, cost: str, data: str) -> Iterator[tuple[Case, float]]:
    """The near-exact solver's share of the drop, or its certified gap."""
    for case, rows in record.each("linear_assignment", CPU, stage, cost=cost, data=data):
        value = rows[NEAR].drop_kept if stage == "call" else rows[NEAR].gap
        if value is not None:
            yield case, value


def _duplicates(record: Record) -> Iterator[Target]:
    """Repeated images must not make ours slower than SciPy."""
    for way in (LAP, EXACT, NEAR):
        found = {
            case: rows[way].ms / rows[SCIPY].ms
            for data in (REPEATED, EQUAL)
            for case, rows in record.each("linear_assignment", CPU, "solve", data=data)
            if way in rows and SCIPY in rows
        }
        yield _largest(f"{way}, duplicates: ≤ {MOST_TIMES_SCIPY:g} × SciPy", found, MOST_TIMES_SCIPY, "{:.2f} ×")


def _faster(goal: str, rows: dict[str, Row], way: str, rival: str, least: float, calls: dict[str, Row] | None = None) -> Target:
    """How many times faster `way` is than `rival`; the whole calls are told beside the solvers."""
    if way not in rows or rival not in rows:
        return Target(goal, "", "not run")
    ratio = rows[rival].ms / rows[way].ms
    whole = f", whole call {calls[rival].ms / calls[way].ms:.1f} ×" if calls else ""
    return Target(goal, f"{ratio:.1f} ×{whole}", "met" if ratio >= least else "missed")


def _largest(goal: str, found: dict[Case, float | None] | dict[Case, float], most: float, form: str) -> Target:
    """The largest of the values found must not exceed `most`; the case where it was found is told."""
    values = {case: value for case, value in found.items() if value is not None}
    if not values:
        return Target(goal, "", "not run")
    worst, value = max(values.items(), key=lambda pair: pair[1])
    where = f" ({worst.batch}{f' × {worst.dimension}' if worst.k else f', {worst.data}'})"
    return Target(goal, form.format(value) + where, "met" if value <= most else "missed")
