"""`immref bench` from its settings to its record: every case, every place, every contestant, with progress."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from immref import BackendError, dispatch
from immref import assignment as solvers
from immref_trainers import environment
from immref_trainers.bench import assignment, knn, write
from immref_trainers.bench.batches import images
from immref_trainers.bench.measure import Measured, side_by_side
from immref_trainers.bench.results import CPU, NUMPY, OFFICIAL, PLAIN, Record, Row, Stage
from immref_trainers.bench.settings import Case, Plan, Settings, plan
from immref_trainers.results import Environment

WARM_UP = (Case("knn", 8, 192, k=2), Case("linear_assignment", 8, 192, cost="l2"))


def bench(settings: Settings, device: str, where: Environment, console: Console) -> Record:
    """Measure every case of the plan, print the tables and write them where a folder is named.

    Parameters
    ----------
    settings : Settings
    device : 'cpu' or a CUDA device
        CUDA is measured beside the CPU, never instead, and with the CuPy backend where that runs.
    where : Environment
    console : Console
        Shows progress and tables.
    """
    if settings.output_dir is not None:
        environment.new_folder(settings.output_dir)
    with threads(settings.threads) as count:
        where = dataclasses.replace(where, threads=count)
        lap = solvers.lap_module()
        console.print("\n".join(write.header(where, lap and lap.__version__)), highlight=False, markup=False)
        began, todo = time.perf_counter(), plan(settings.quick)
        rows = tuple(measure(todo, places(device), console))
    record = Record(where, lap and lap.__version__, settings.quick, rows, tuple(left_out(todo)), time.perf_counter() - began)
    console.print(f"\n{write.text(record)}", highlight=False, markup=False, soft_wrap=True)
    if settings.output_dir is not None:
        write.into(settings.output_dir, record)
        console.print(f"written to {settings.output_dir}", highlight=False, markup=False)
    return record


def places(device: str) -> tuple[str, ...]:
    """Where tensors are paired: by torch on the CPU, and on a GPU by both backends, as far as they run."""
    if not device.startswith("cuda"):
        return (CPU,)
    try:
        cupy = dispatch.load("cupy").unavailable(device) is None
    except BackendError:
        cupy = False
    return (CPU, f"torch {device}", f"cupy {device}") if cupy else (CPU, f"torch {device}")


def measure(todo: Plan, at: tuple[str, ...], console: Console) -> Iterator[Row]:
    """The rows of every case, a line for each case as it is done."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    for case in WARM_UP:  # libraries load, thread pools start: neither belongs to a contestant's time or memory
        list(rows_of(case, dataclasses.replace(todo, seconds=0), at))
    with bar:
        task = bar.add_task("", total=sum(case.work for case in todo.cases))
        for case in todo.cases:
            bar.update(task, description=str(case))
            rows = list(rows_of(case, todo, at))
            bar.advance(task, case.work)
            console.print(f"{case}: {write.line(rows)}", highlight=False, markup=False)
            yield from rows


def rows_of(case: Case, todo: Plan, at: tuple[str, ...]) -> Iterator[Row]:
    """One case on every place."""
    x_BD = images(case.data, case.batch, case.dimension)
    if case.method == "knn":
        yield from knn_rows(case, x_BD, NUMPY, todo)
    for place in at:
        x = torch.tensor(x_BD, device=place.partition(" ")[2])
        yield from (knn_rows if case.method == "knn" else assignment_rows)(case, x, place, todo)


def knn_rows(case: Case, x_BD: Any, place: str, todo: Plan) -> Iterator[Row]:
    """The contestants for KNN, all at one place."""
    assert case.k is not None
    found = side_by_side(knn.ways(x_BD, case.k, todo.most_numbers, place), todo.seconds, place.partition(" ")[2] or "cpu")
    kept = knn.drop_kept(place, case.dimension, case.k)
    for way in found:
        yield row(case, place, "call", way, found, kept.get(way), None)


def assignment_rows(case: Case, x_BD: torch.Tensor, place: str, todo: Plan) -> Iterator[Row]:
    """The contestants for linear assignment: whole calls, then the solvers alone."""
    assert case.cost is not None
    noise_BD = torch.from_numpy(np.random.default_rng(1).standard_normal(x_BD.shape, dtype=np.float32)).to(x_BD.device)
    arguments = (x_BD, noise_BD, case.cost, todo.most_scipy, place.partition(" ")[0])
    device = str(x_BD.device)
    found = side_by_side(assignment.call_ways(*arguments), todo.seconds, device)
    kept = assignment.drops_kept(x_BD, noise_BD, found, case.cost)
    for way in found:
        yield row(case, place, "call", way, found, kept.get(way), None)
    found = side_by_side(assignment.solve_ways(*arguments), todo.seconds, device)
    for way, measured in found.items():
        yield row(case, place, "solve", way, found, None, measured.result[1])


def row(case: Case, place: str, stage: Stage, way: str, found: dict[str, Measured], kept: float | None, gap: float | None) -> Row:
    """The row of `way`, held against the plain noise and the official form of the same rounds."""
    measured = found[way]
    against = {name: measured.ms / found[name].ms if name in found else None for name in (PLAIN, OFFICIAL)}
    return Row(case, place, stage, way, measured.ms, measured.calls, against[PLAIN], against[OFFICIAL], measured.peak_bytes, kept, gap)


def left_out(todo: Plan) -> Iterator[str]:
    """What the plan holds to be too much, a sentence each."""
    for case in todo.cases:
        if case.k is not None and (numbers := case.k * case.batch * case.dimension) > todo.most_numbers:
            yield (
                f"brute force and the official form at {case}: {numbers / 1e6:,.0f} million numbers to draw, more than the "
                f"{todo.most_numbers / 1e6:,.0f} million of this run; the official form would take {6 * numbers / 2**30:.1f} GiB"
            )
    slow = sorted({case.batch for case in todo.cases if case.cost is not None and case.batch > todo.most_scipy})
    if slow:
        batches = ", ".join(map(str, slow))
        yield f"SciPy without an auction, the official form included, at batch {batches}: more rows than the {todo.most_scipy} of this run"


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Torch on `count` threads while the block runs; on as many as before where None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
