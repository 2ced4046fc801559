"""`immref train`: one run of a recipe."""

from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from immref_trainers import tables
from immref_trainers.config import Options, Run
from immref_trainers.data.training import Images
from immref_trainers.experiment import Context, run_one
from immref_trainers.metrics.judge import Judge
from immref_trainers.progress import TrainingProgress, duration
from immref_trainers.results import Environment, Outcome, counted
from immref_trainers.signals import Stop


def train(
    run: Run, images: Images, folder: Path, accelerator: Accelerator, where: Environment, console: Console, options: Options
) -> Outcome | None:
    """Train, evaluate and write the run into `folder`; None where a signal stopped it."""
    console.print(
        f"pairing  {run.pairing}\nbackend  {where.backend}\ndevice   {where.device}, {where.threads} threads\noutput   {folder}",
        highlight=False,
    )
    judge = Judge(images, run, accelerator.device)
    console.print(f"images   {len(images.train):,} of {'×'.join(map(str, images.train.shape))}, {len(images.held_out):,} held out")
    console.print(f"judged   by {judge.name}; {judge.quality}", highlight=False)
    with Stop() as stop, TrainingProgress(console, run.max_train_steps) as progress:
        progress.start_run(f"{run.pairing}, seed {run.seed}")
        ended = run_one(run, folder, Context(images, accelerator, where, options, stop, progress.say), judge, progress.watch)
    if ended is None:
        return None
    outcome = ended.outcome
    for prior, scores in outcome.priors.items():
        written = ", ".join(f"{score.fd:.3f} at {counted(count)}" for count, score in scores.items())
        console.print(f"{prior:12} Fréchet distance {written}", highlight=False)
    if outcome.skew is not None:
        told, chance = f"{outcome.skew.accuracy:.1%}", f"{outcome.skew.chance:.1%}"
        console.print(f"skew     the label is told from the noise of training in {told} of cases, chance {chance}", highlight=False)
    if (sentence := tables.skewed("", tables.skews_of([outcome]))) is not None:
        console.print(sentence, highlight=False)
    dose = outcome.dose
    console.print(
        f"distance {dose.distance_drop:+.2%}, E n² {dose.mean_square:.3f}, pairing {dose.pairing_ms:.2f} ms ({dose.share:.1%} of the "
        f"step); {duration(outcome.seconds)}",
        highlight=False,
    )
    return outcome
