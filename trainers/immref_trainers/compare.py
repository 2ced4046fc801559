"""`immref compare`: one recipe under several pairings, side by side."""

import dataclasses
import json
from pathlib import Path

from accelerate import Accelerator
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from immref_trainers import environment, exact_field, figures, report, tables
from immref_trainers.config import Run, run_name
from immref_trainers.data import digits
from immref_trainers.experiment import run_one
from immref_trainers.metrics import features
from immref_trainers.metrics.judge import Judge
from immref_trainers.progress import TrainingProgress, duration
from immref_trainers.results import Comparison, Environment, Outcome, by_pairing, speedups


def compare(runs: list[Run], folder: Path, accelerator: Accelerator, where: Environment, console: Console, command: str) -> Comparison:
    """Carry out `runs`, showing progress; write results, figures and the report into `folder`."""
    environment.new_folder(folder)
    console.print(f"backend  {where.backend}\ndevice   {where.device}, {where.threads} threads\noutput   {folder}", highlight=False)

    images = digits.load(runs[0].data)
    console.print(f"\nFitting two small digit classifiers, whose features judge all samples ({features.STEPS} steps each) …")
    judge = Judge(images)
    console.print(f"accuracy on {len(images.held_out)} held-out digits: {judge.accuracy:.1%}", highlight=False)

    console.print("\n[bold]1. The exact field[/]: what a perfect network would do under each pairing, sampled with NumPy and SciPy alone.")
    exact = []
    for row in exact_field.table(images, judge, runs[0]):
        exact.append(row)
        console.print(f"{row.pairing!s:12} {'  '.join(f'{fd:.2f} at {count}' for count, fd in row.fd.items())}", highlight=False)

    total = sum(run.max_train_steps for run in runs)
    console.print(f"\n[bold]2. Trained networks[/]: {len(runs)} runs, {total:,} steps in all.")
    outcomes: list[Outcome] = []
    pictures: figures.Pictures = {}
    with TrainingProgress(console, total) as progress:
        for run in runs:
            progress.start_run(f"{run.pairing}, seed {run.seed}")
            outcome, samples = run_one(run, images, judge, accelerator, where, folder / run_name(run), progress.watch)
            outcomes.append(outcome)
            pictures.setdefault(run.pairing, samples)

    comparison = Comparison(
        recipe=runs[0].recipe,
        command=command,
        environment=where,
        features=features.NAME,
        feature_accuracy=judge.accuracy,
        floor=judge.floor(runs[0].evaluation.num_samples),
        floor_exact=judge.floor(exact_field.POINTS),
        exact=exact,
        outcomes=outcomes,
    )
    write(comparison, folder)
    report.write(comparison, figures.draw(comparison, images, pictures, folder), folder)
    show(comparison, console)
    console.print(
        f"\ntrained in {duration(sum(outcome.seconds for outcome in outcomes))}; report: {folder / 'report.html'}", highlight=False
    )
    return comparison


def write(comparison: Comparison, folder: Path) -> None:
    """`results.json`: every number, and the speed-ups worked out from them."""
    record = dataclasses.asdict(comparison)
    counts = tables.sampler_steps(comparison)
    record["speedups"] = {
        str(pairing): {count: [dataclasses.asdict(value) for value in speedups(comparison, pairing, count)] for count in counts}
        for pairing in by_pairing(comparison)
    }
    record["findings"] = tables.findings(comparison)
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def show(comparison: Comparison, console: Console) -> None:
    """Print every table and what to take away."""
    for table in tables.all_tables(comparison):
        grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for number, column in enumerate(table.columns):
            grid.add_column(column, justify="right" if number else "left", no_wrap=not number, overflow="fold")
        for row in table.rows:
            grid.add_row(*row)
        console.print(f"\n[bold]{table.title}[/]", grid, table.caption, sep="\n", highlight=False)
    console.print()
    for sentence in tables.findings(comparison):
        console.print(f"· {sentence}", highlight=False)
