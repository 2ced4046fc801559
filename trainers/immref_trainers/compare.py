"""`immref compare`: one recipe under several pairings, side by side."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator
from rich.console import Console

from immref_trainers import environment, exact_field, figures, report, tables, terminal
from immref_trainers.config import Options, Run, run_name
from immref_trainers.data.training import Images
from immref_trainers.experiment import Context, Finished, Watch, run_one
from immref_trainers.metrics.judge import Judge
from immref_trainers.progress import TrainingProgress, duration
from immref_trainers.results import Comparison, Environment, ExactRow, by_pairing, speedups
from immref_trainers.signals import Stop

T = TypeVar("T")


@dataclass(frozen=True)
class How:
    """The options of a command, and the command itself for the report."""

    options: Options
    command: str


def compare(
    runs: list[Run], images: Images, folder: Path, accelerator: Accelerator, where: Environment, console: Console, how: How
) -> Comparison | None:
    """Carry out `runs`, showing progress; write results, figures and the report into `folder`. None where a signal stopped it."""
    if accelerator.is_main_process:
        environment.new_folder(folder, again=how.options.resume_from_checkpoint is not None)
    accelerator.wait_for_everyone()
    console.print(f"backend  {where.backend}\ndevice   {where.device}, {where.threads} threads\noutput   {folder}", highlight=False)
    console.print("\nFitting the feature networks by which all samples are judged …")
    judge = Judge(images, runs[0], accelerator.device)
    console.print(f"{judge.name}; {judge.quality}", highlight=False)
    exact = show_exact(images, judge, runs[0], console)

    began = time.monotonic()

    def carry_out(run: Run, context: Context, watch: Watch) -> Finished | None:
        return run_one(run, folder / run_name(run), context, judge, watch)

    done = carried_out(runs, carry_out, Shared(images, accelerator, where, console, how.options))
    if done is None:
        return None
    comparison = Comparison(
        recipe=runs[0].recipe,
        command=how.command,
        environment=where,
        features=judge.name,
        features_quality=judge.quality,
        floor=judge.floor(runs[0].evaluation.num_samples),
        floor_exact=judge.floor(exact_field.POINTS) if exact else [],
        exact=exact,
        outcomes=[one.outcome for one in done],
    )
    pictures: figures.Pictures = {}
    for one in done:
        pictures.setdefault(one.outcome.run.pairing, one.pictures)
    if accelerator.is_main_process:
        write(comparison, folder)
        report.write(comparison, figures.draw(comparison, images, pictures, folder), folder)
        show(comparison, console)
    console.print(f"\ntrained in {duration(time.monotonic() - began)}; report: {folder / 'report.html'}", highlight=False)
    return comparison


@dataclass(frozen=True)
class Shared:
    """What all runs of a comparison are given."""

    images: Images
    accelerator: Accelerator
    environment: Environment
    console: Console
    options: Options


def carried_out(runs: list[Run], one: Callable[[Run, Context, Watch], T | None], shared: Shared) -> list[T] | None:
    """Every run in turn by `one`, with a bar over all; None where a signal stopped one."""
    total, done = sum(run.max_train_steps for run in runs), []
    shared.console.print(f"\n[bold]Trained networks[/]: {len(runs)} runs, {total:,} steps in all.")
    with Stop() as stop, TrainingProgress(shared.console, total) as progress:
        context = Context(shared.images, shared.accelerator, shared.environment, shared.options, stop, progress.say)
        for number, run in enumerate(runs):
            progress.start_run(f"{run.pairing}, seed {run.seed}", number * run.max_train_steps)
            ended = one(run, context, progress.watch)
            if ended is None:
                return None
            done.append(ended)
    return done


def show_exact(images: Images, judge: Judge, run: Run, console: Console) -> list[ExactRow]:
    """The exact field's rows, printed as they come; none where the images are too many for it."""
    console.print("\n[bold]The exact field[/]: what a perfect network would do under each pairing, sampled with NumPy and SciPy alone.")
    if not exact_field.fits(images, run):
        limit = f"it weighs every image at every step, too slow beyond {exact_field.MOST:,} numbers or in latents"
        console.print(f"Left out: {limit}.", highlight=False)
        return []
    rows = []
    for row in exact_field.table(images, judge, run):
        rows.append(row)
        console.print(f"{row.pairing!s:12} {'  '.join(f'{fd:.2f} at {count}' for count, fd in row.fd.items())}", highlight=False)
    return rows


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
        terminal.show(table, console)
    console.print()
    for sentence in tables.findings(comparison):
        console.print(f"· {sentence}", highlight=False)
