"""`immref train`: one run of a recipe."""

from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from immref_trainers.config import Run
from immref_trainers.data import digits
from immref_trainers.experiment import run_one
from immref_trainers.metrics.judge import Judge
from immref_trainers.progress import TrainingProgress, duration
from immref_trainers.results import Environment, Outcome, counted


def train(run: Run, folder: Path, accelerator: Accelerator, where: Environment, console: Console) -> Outcome:
    """Train, evaluate and write the run into `folder`."""
    console.print(
        f"pairing  {run.pairing}\nbackend  {where.backend}\ndevice   {where.device}, {where.threads} threads\noutput   {folder}",
        highlight=False,
    )
    images = digits.load(run.data)
    judge = Judge(images)
    with TrainingProgress(console, run.max_train_steps) as progress:
        progress.start_run(f"{run.pairing}, seed {run.seed}")
        outcome, _ = run_one(run, images, judge, accelerator, where, folder, progress.watch)
    for prior, scores in outcome.priors.items():
        written = ", ".join(f"{score.fd:.3f} at {counted(count)}" for count, score in scores.items())
        console.print(f"{prior:12} Fréchet distance {written}", highlight=False)
    dose = outcome.dose
    console.print(
        f"distance {dose.distance_drop:+.2%}, E n² {dose.mean_square:.3f}, pairing {dose.pairing_ms:.2f} ms ({dose.share:.1%} of the "
        f"step); {duration(outcome.seconds)}",
        highlight=False,
    )
    return outcome
