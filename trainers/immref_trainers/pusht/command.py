"""`immref train` and `immref compare` for policies."""

import dataclasses
import json
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from immref_trainers import environment, terminal
from immref_trainers.compare import How, Shared, carried_out
from immref_trainers.config import Options, Run, run_name
from immref_trainers.data.training import Images
from immref_trainers.experiment import Context, Watch
from immref_trainers.progress import TrainingProgress, duration
from immref_trainers.pusht import film, results
from immref_trainers.pusht.experiment import RolledRun, run_one
from immref_trainers.pusht.results import PolicyComparison, PolicyOutcome
from immref_trainers.results import Environment
from immref_trainers.signals import Stop


def train(
    run: Run, images: Images, folder: Path, accelerator: Accelerator, where: Environment, console: Console, options: Options
) -> PolicyOutcome | None:
    """Train one policy and roll it out; None where a signal stopped it."""
    introduce(run, images, folder, where, console)
    with Stop() as stop, TrainingProgress(console, run.max_train_steps) as progress:
        progress.start_run(f"{run.pairing}, seed {run.seed}")
        ended = run_one(run, folder, Context(images, accelerator, where, options, stop, progress.say), progress.watch)
    if ended is None:
        return None
    outcome = ended.outcome
    dose = outcome.dose
    console.print(f"{outcome.curve[-1]}; {folder / 'rollouts.gif'} shows the first", highlight=False)
    console.print(
        f"distance {dose.distance_drop:+.2%}, E n² {dose.mean_square:.3f}, pairing {dose.pairing_ms:.2f} ms ({dose.share:.1%} of the "
        f"step); {duration(outcome.seconds)}",
        highlight=False,
    )
    return outcome


def compare(
    runs: list[Run], images: Images, folder: Path, accelerator: Accelerator, where: Environment, console: Console, how: How
) -> PolicyComparison | None:
    """Train policies under several pairings, roll all of them out from the same starts, and write tables and pictures."""
    if accelerator.is_main_process:
        environment.new_folder(folder, again=how.options.resume_from_checkpoint is not None)
    accelerator.wait_for_everyone()
    introduce(runs[0], images, folder, where, console)

    def carry_out(run: Run, context: Context, watch: Watch) -> RolledRun | None:
        return run_one(run, folder / run_name(run), context, watch)

    done = carried_out(runs, carry_out, Shared(images, accelerator, where, console, how.options))
    if done is None:
        return None
    comparison = PolicyComparison(runs[0].recipe, how.command, where, [one.outcome for one in done])
    if accelerator.is_main_process:
        record = dataclasses.asdict(comparison) | {"findings": results.findings(comparison)}
        (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        first = {str(one.outcome.run.pairing): one.states[0] for one in reversed(done)}
        film.strip(dict(reversed(first.items())), folder / "film.png")
        terminal.show(results.table(comparison), console)
        for sentence in results.findings(comparison):
            console.print(f"· {sentence}", highlight=False)
        console.print(f"\npictures and every number: {folder}", highlight=False)
    return comparison


def introduce(run: Run, images: Images, folder: Path, where: Environment, console: Console) -> None:
    """What is about to happen."""
    console.print(f"backend  {where.backend}\ndevice   {where.device}, {where.threads} threads\noutput   {folder}", highlight=False)
    console.print(
        f"data     {len(images.train):,} chunks of {images.train.shape[-1]} actions, {len(images.held_out):,} of episodes held out; "
        f"judged in {run.evaluation.num_samples} roll-outs",
        highlight=False,
    )
