"""One run from its record to its outcome: train or go on, evaluate and save on the way, write the folder."""

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors.numpy import load_file

from immref.miscibility import distance_drop
from immref_trainers import arrays, card, checkpoint, evaluation, strict_json
from immref_trainers.config import Options, Run
from immref_trainers.data.training import Images
from immref_trainers.environment import new_folder
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.evaluation import Ended, FloatArray
from immref_trainers.loop import Step, Trainer
from immref_trainers.metrics.judge import Judge
from immref_trainers.results import Dose, Environment, Evaluated, Outcome, Point
from immref_trainers.signals import Stop
from immref_trainers.steplog import StepLog
from immref_trainers.trackers import Tracker
from immref_trainers.train_state import differences

Watch = Callable[[Step, Evaluated | None], None]

WARM_UP = 5  # first steps left out of the timings


@dataclass(frozen=True)
class Context:
    """What the runs of a command share; `say` prints a line."""

    images: Images
    accelerator: Accelerator
    environment: Environment
    options: Options
    stop: Stop
    say: Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, and by sampler steps its first samples from N(0, I), for pictures."""

    outcome: Outcome
    pictures: dict[int, FloatArray]


def run_one(run: Run, folder: Path, context: Context, judge: Judge, watch: Watch) -> Finished | None:
    """`trained`, its samples judged on the way and at the end, and everything written; None where a signal stopped it."""
    if not entered(run, folder, context):
        done = trained(run, folder, context, lambda trainer, step: Point(step, evaluation.curve_scores(trainer, judge)), watch)
        if done is None:
            return None
        trainer, log = done
        ended = evaluation.at_the_end(trainer, context.images, judge)
        if log is not None:
            write(trainer, ended, log, folder, context, judge.name)
        context.accelerator.wait_for_everyone()
    return finished(folder)


def trained(
    run: Run, folder: Path, context: Context, evaluate: Callable[[Trainer, int], Evaluated], watch: Watch
) -> tuple[Trainer, StepLog | None] | None:
    """Train `run` in its prepared folder, from its newest checkpoint where the options say so; None where a signal stopped it, saved.

    `evaluate` says how well the averaged weights do after a step, in every process; the first process alone has the log.
    """
    accelerator, options = context.accelerator, context.options
    trainer, done = begin(run, folder, context)
    log = StepLog(folder, done) if accelerator.is_main_process else None
    with Tracker(options.report_to, folder, run, accelerator, context.say) as tracker, log or nullcontext(), survivable(folder):
        for step in trainer.steps(done):
            point = evaluate(trainer, step.step) if step.step in run.evaluation.at_steps else None
            stopped = evaluation.any_process(accelerator, context.stop.asked)
            if log is not None:
                log.append(step, point)
                tracker.log(step, point)
                watch(step, point)
                if stopped or step.step % options.checkpointing_steps == 0 or step.step == run.max_train_steps:
                    log.sync()
                    checkpoint.save(folder, step.step, *trainer.state(), options.checkpoints_total_limit)
            if stopped:
                return None
    return trainer, log


@contextmanager
def survivable(folder: Path) -> Iterator[None]:
    """Where training or its evaluation fails, the sentence names the checkpoint that is left."""
    try:
        yield
    except TrainingError as error:
        newest = max(checkpoint.checkpoints(folder), default=0)
        left = f"{folder / f'checkpoint-{newest}'} holds the run before that" if newest else "no checkpoint was saved before"
        raise TrainingError(f"{error}; {left}") from error


def entered(run: Run, folder: Path, context: Context) -> bool:
    """Prepare the folder of a run, in the first process; whether the run is there already, finished."""
    if context.accelerator.is_main_process:
        prepare(run, folder, context)
    context.accelerator.wait_for_everyone()
    return (folder / "outcome.json").exists()


def prepare(run: Run, folder: Path, context: Context) -> None:
    """A new folder with the run's record; or, to go on, one that holds this run and no other."""
    if context.options.resume_from_checkpoint is None or not (folder / "run.json").exists():
        new_folder(folder)
        (folder / "run.json").write_text(strict_json.to_json(run), encoding="utf-8")
        (folder / "environment.json").write_text(strict_json.to_json(context.environment), encoding="utf-8")
        return
    there = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if differing := differences(there, json.loads(strict_json.to_json(run))):
        name, before, now = differing[0]
        raise UsageError(f"{folder} holds another run: its {name} is {before!r}, and {now!r} is asked for")


def begin(run: Run, folder: Path, context: Context) -> tuple[Trainer, int]:
    """The trainer, and how many steps it has done."""
    trainer, which = Trainer(run, context.images, context.accelerator), context.options.resume_from_checkpoint
    for sentence in trainer.space.notes:
        context.say(sentence)
    found = None if which is None else checkpoint.find(folder, which)
    if found is None:
        if which is not None:
            context.say(f"{folder} holds no checkpoint: the run begins anew")
        return trainer, 0
    for sentence in found.skipped:
        context.say(sentence)
    trainer.restore(checkpoint.load(found.folder))
    context.say(f"going on from {found.folder}")
    return trainer, found.step


def write(trainer: Trainer, ended: Ended, log: StepLog, folder: Path, context: Context, judged_by: str) -> None:
    """Everything that a finished run leaves; its outcome last, by which it counts as finished."""
    run, images = trainer.run, context.images
    curve = [point for point in log.points if isinstance(point, Point)]
    outcome = Outcome(
        run,
        curve,
        {"gaussian": curve[-1].scores, **ended.priors},
        dose_of(log.steps),
        ended.nearest,
        ended.skew,
        ended.one_step,
        sum(step.step_ms for step in log.steps) / 1e3,
    )
    facts = {"shape": list(trainer.space.train.shape), "largest": images.train.largest}
    facts |= {"low": images.low, "high": images.high, "classes": images.classes, "prompts": trainer.space.prompts}
    (folder / "data.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    arrays.save(ended.fitted, folder / "prior.safetensors")
    arrays.save({str(steps): samples for steps, samples in ended.pictures.items()}, folder / "samples.safetensors")
    reason = trainer.space.export(trainer.average, facts, folder)
    card.write(outcome, judged_by, context.environment, facts, reason, folder)
    (folder / "outcome.json").write_text(strict_json.to_json(outcome), encoding="utf-8")
    if reason:
        context.say(reason)


def finished(folder: Path) -> Finished:
    """A run that is in its folder."""
    outcome = strict_json.read(Outcome, (folder / "outcome.json").read_text(encoding="utf-8"))
    return Finished(outcome, {int(steps): samples for steps, samples in load_file(folder / "samples.safetensors").items()})


def dose_of(steps: list[Step]) -> Dose:
    """Means of what pairing did over the run, medians of what it cost."""
    timed = steps[WARM_UP:] or steps
    return Dose(
        distance_drop=statistics.fmean(distance_drop(step.before, step.after) for step in steps),
        mean_square=statistics.fmean(step.mean_square for step in steps),
        pairing_ms=statistics.median(step.pairing_ms for step in timed),
        step_ms=statistics.median(step.step_ms for step in timed),
    )
