"""What a run of `immref bench` prints and writes: text of 100 columns, bench.json, bench.txt and bench.png."""

import dataclasses
import json
import os
import textwrap
from pathlib import Path

from immref_trainers.bench import figure
from immref_trainers.bench.results import EXACT, LAP, NEAR, OFFICIAL, OURS, PLAIN, Record, Row
from immref_trainers.bench.tables import all_tables
from immref_trainers.bench.targets import targets
from immref_trainers.progress import duration
from immref_trainers.results import Environment
from immref_trainers.tables import Table

WIDTH = 100


def header(where: Environment, lap: str | None) -> list[str]:
    """The machine, the versions, and what pairs here and why."""
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    without = "not installed: exact assignment goes on with SciPy (pip install 'immref[fast]')"
    return [
        f"machine  {where.machine}, {os.cpu_count()} cores, {where.threads} torch threads, Python {where.python}",
        *textwrap.wrap(f"versions {versions}", WIDTH, subsequent_indent=" " * 9),
        f"backend  {where.backend}",
        f"device   {where.device}",
        f"lap      {lap or without}",
    ]


def line(rows: list[Row]) -> str:
    """One case in a few words, for the log."""
    parts = []
    for row in rows:
        if row.stage == "call" and row.way in (PLAIN, OURS, LAP, EXACT, NEAR, OFFICIAL):
            where = "" if row.place.endswith("cpu") else f" ({row.place})"
            parts.append(f"{row.way.removesuffix(', float16')}{where} {row.ms:.3g}")
    return f"{', '.join(parts)} ms"


def text(record: Record) -> str:
    """Every table, what was left out, and how long it took."""
    parts = [render(table) for table in all_tables(record)]
    if record.left_out:
        parts.append(
            "\n".join(["Left out", *(textwrap.fill(f"· {sentence}", WIDTH, subsequent_indent="  ") for sentence in record.left_out)])
        )
    parts.append(f"measured in {duration(record.seconds)}; nothing is extrapolated")
    return "\n\n\n".join(parts) + "\n"


def render(table: Table) -> str:
    """A table as text: the caption under the title, columns right-aligned but for words on the left."""
    heads = [column.split("\n") for column in table.columns]
    depth = max(map(len, heads))
    lines = [[([""] * (depth - len(head)) + head)[i] for head in heads] for i in range(depth)]
    widths = [max(len(cells[i]) for cells in [*lines, *table.rows]) for i in range(len(heads))]
    words = [not any(cells[i].lstrip("<≤≥").replace(".", "")[:1].isdigit() for cells in table.rows) for i in range(len(heads))]

    def laid_out(cells: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(cells, widths, words, strict=True)
        ).rstrip()

    body = [laid_out(cells) for cells in [*lines, *table.rows]]
    body.insert(depth, "-" * max(map(len, body)))
    return "\n".join([table.title, *textwrap.wrap(table.caption, WIDTH), "", *body])


def into(folder: Path, record: Record) -> None:
    """Write bench.json (every number), bench.txt (the tables) and bench.png into `folder`."""
    numbers = dataclasses.asdict(record) | {"targets": [dataclasses.asdict(target) for target in targets(record)]}
    (folder / "bench.json").write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    told = [*header(record.environment, record.lap), "", text(record)]
    (folder / "bench.txt").write_text("\n".join(told), encoding="utf-8")
    figure.draw(record, folder / "bench.png")
