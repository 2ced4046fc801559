"""One policy from its record to its outcome: trained, rolled out on the way, everything written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from immref_trainers import samplers, streams, strict_json
from immref_trainers.config import Run
from immref_trainers.experiment import Context, Watch, dose_of, entered, trained
from immref_trainers.loop import Trainer
from immref_trainers.objectives.regression import Predictor
from immref_trainers.pusht import film
from immref_trainers.pusht.chunks import Demonstrated
from immref_trainers.pusht.results import PolicyOutcome
from immref_trainers.pusht.rollout import Rolled, roll_out
from immref_trainers.results import Covered, RolledPoint

Array = np.ndarray[Any, Any]

COMPARED = 512  # held-out chunks that drawn ones are compared with
OUTCOME, STATES = "outcome.json", "rollouts.npz"


@dataclass(frozen=True)
class RolledRun:
    """A policy that came to its end, and the states (T, 5) of its first roll-outs."""

    outcome: PolicyOutcome
    states: list[Array]


def run_one(run: Run, folder: Path, context: Context, watch: Watch) -> RolledRun | None:
    """Train `run` and roll it out; None where a signal stopped it, saved."""
    if not entered(run, folder, context):
        rolled: dict[int, Rolled] = {}

        def evaluate(trainer: Trainer, step: int) -> RolledPoint:
            scores = {}
            for count in run.evaluation.sampler_steps:
                scores[count], rolled[count] = covered(trainer, count)
            return RolledPoint(step, scores)

        done = trained(run, folder, context, evaluate, watch)
        if done is None:
            return None
        trainer, log = done
        for count in run.evaluation.sampler_steps:
            if count not in rolled:  # gone on with after the last step
                rolled[count] = covered(trainer, count)[1]
        if log is not None:
            final = {count: one.scores.tolist() for count, one in rolled.items()}
            curve = [point for point in log.points if isinstance(point, RolledPoint)]
            seconds = sum(step.step_ms for step in log.steps) / 1e3
            write(trainer, PolicyOutcome(run, curve, final, dose_of(log.steps), seconds), rolled[max(rolled)], folder)
        context.accelerator.wait_for_everyone()
    with np.load(folder / STATES) as states:
        kept = [states[name] for name in states.files]
    return RolledRun(strict_json.read(PolicyOutcome, (folder / OUTCOME).read_text(encoding="utf-8")), kept)


def covered(trainer: Trainer, count: int) -> tuple[Covered, Rolled]:
    """The averaged weights rolled out from the first seeds' starts, and held against held-out demonstrations."""
    run, source = trainer.run, trainer.space.train
    assert isinstance(source, Demonstrated)
    predict = trainer.predictor(trainer.average)
    rolled = roll_out(run, predict, source, list(range(run.evaluation.num_samples)), count, trainer.accelerator.device)
    scores = rolled.scores
    error = float(scores.std(ddof=1) / np.sqrt(len(scores)))
    solved = float((rolled.scores >= 1).mean())
    return Covered(float(scores.mean()), error, solved, action_error(trainer, predict, count)), rolled


def action_error(trainer: Trainer, predict: Predictor, count: int) -> float:
    """Root mean square difference of drawn and demonstrated actions on held-out episodes, in pixels."""
    run, held = trainer.run, trainer.space.held_out
    assert isinstance(held, Demonstrated)
    index = np.arange(min(COMPARED, len(held)))
    generator = streams.generator(streams.ROLLOUT, run.seed, rank=1)
    noise = generator.standard_normal((len(index), *held.shape), dtype=np.float32)
    made = samplers.sample(run, predict, trainer.place(noise), count, held.largest, trainer.place(held.labels(index)), generator).numpy()
    apart = (held.actions.restored(part.transpose(0, 2, 1)) for part in (made, held.images(index)))
    return float(np.sqrt(np.square(np.subtract(*apart)).mean()))


def write(trainer: Trainer, outcome: PolicyOutcome, rolled: Rolled, folder: Path) -> None:
    """Everything that a finished policy leaves; its outcome last, by which it counts as finished."""
    facts = {"shape": list(trainer.space.train.shape), "largest": 1.0}
    (folder / "data.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    np.savez(folder / STATES, *rolled.states[: film.EPISODES])
    trainer.space.export(trainer.average, facts, folder)
    film.gif(rolled.states[: film.EPISODES], folder / "rollouts.gif")
    (folder / OUTCOME).write_text(strict_json.to_json(outcome), encoding="utf-8")
