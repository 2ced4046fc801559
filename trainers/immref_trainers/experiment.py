"""One run from its record to its outcome: train, evaluate on the way, sample under every prior, write the folder."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from safetensors.numpy import save_file

from immref import Pairing
from immref.miscibility import distance_drop
from immref_trainers import config, samplers
from immref_trainers.config import Run
from immref_trainers.data.digits import Images
from immref_trainers.environment import new_folder
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Step, Trainer
from immref_trainers.metrics.judge import Judge
from immref_trainers.results import Dose, Environment, Outcome, Point, Scores
from immref_trainers.samplers import priors

FloatArray = np.ndarray[Any, Any]
Watch = Callable[[Step, Point | None], None]

GRID = 48  # samples kept as pictures
WARM_UP = 5  # first steps left out of the timings


def run_one(
    run: Run, images: Images, judge: Judge, accelerator: Accelerator, environment: Environment, folder: Path, watch: Watch
) -> tuple[Outcome, dict[int, FloatArray]]:
    """Train `run`; return its outcome and, by sampler steps, the first samples from N(0, I) for pictures."""
    began = time.perf_counter()
    new_folder(folder)
    (folder / "run.json").write_text(config.to_json(run), encoding="utf-8")
    (folder / "environment.json").write_text(config.to_json(environment), encoding="utf-8")
    trainer = Trainer(run, images.train, images.train_labels, accelerator)
    start = priors.gaussian((run.evaluation.num_samples, *images.train.shape[1:]), run.seed)

    curve, steps = [], []
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:
        for step in trainer.steps():
            point = None
            if step.step in run.evaluation.at_steps:
                point = Point(step.step, judge_samples(trainer, judge, start))
                curve.append(point)
            steps.append(step)
            log.write(json.dumps(log_line(step, point)) + "\n")
            watch(step, point)

    fitted, others = other_priors(trainer, judge, images, start)
    outcome = Outcome(run, curve, {"gaussian": curve[-1].scores, **others}, dose_of(steps), time.perf_counter() - began)
    trainer.average.save_pretrained(folder / "unet")
    save_file(fitted, folder / "prior.safetensors")
    (folder / "outcome.json").write_text(config.to_json(outcome), encoding="utf-8")
    return outcome, {count: sample(trainer, start[:GRID], count) for count in run.evaluation.sampler_steps}


def sample(trainer: Trainer, noise: FloatArray, steps: int) -> FloatArray:
    """Samples of the averaged network, image scaling undone."""
    predict = trainer.objective.predictor(trainer.average)
    return samplers.sample(trainer.run, predict, trainer.place(noise), steps, trainer.largest).numpy()


def judge_samples(trainer: Trainer, judge: Judge, noise: FloatArray) -> Scores:
    """Scores by the sampler's steps."""
    scores = {}
    for count in trainer.run.evaluation.sampler_steps:
        samples = sample(trainer, noise, count)
        if not np.isfinite(samples).all():
            raise TrainingError(f"samples are not finite with learning rate {trainer.run.optimizer.learning_rate:g}; try a smaller one")
        scores[count] = judge.score(samples)
    return scores


def other_priors(trainer: Trainer, judge: Judge, images: Images, start: FloatArray) -> tuple[dict[str, FloatArray], dict[str, Scores]]:
    """The fitted moment prior, and the scores from it, from matched noise and, for vanilla, from warmer noise."""
    run = trainer.run
    batch = run.train_batch_size * run.gradient_accumulation_steps
    produced = priors.paired_noise(images.train, images.train_labels, run.pairing, batch, priors.MEASURED, run.seed, trainer.place)
    fitted = priors.fit_moment(produced)
    matched = priors.paired_noise(images.held_out, images.held_out_labels, run.pairing, batch, len(start), run.seed, trainer.place)
    scores = {
        "moment": judge_samples(trainer, judge, priors.moment(fitted, start)),
        "matched": judge_samples(trainer, judge, matched),
    }
    if run.pairing == Pairing():
        scores["temperature"] = judge_samples(trainer, judge, priors.gaussian(start.shape, run.seed, run.evaluation.temperature))
    return fitted, scores


def dose_of(steps: list[Step]) -> Dose:
    """Means of what pairing did over the run, medians of what it cost."""
    timed = steps[WARM_UP:] or steps
    return Dose(
        distance_drop=statistics.fmean(distance_drop(step.before, step.after) for step in steps),
        mean_square=statistics.fmean(step.mean_square for step in steps),
        pairing_ms=statistics.median(step.pairing_ms for step in timed),
        step_ms=statistics.median(step.step_ms for step in timed),
    )


def log_line(step: Step, point: Point | None) -> dict[str, float]:
    """One line of `metrics.jsonl`, under the names that trackers expect."""
    line = {
        "step": step.step,
        "train/loss": step.loss,
        "train/grad_norm": step.grad_norm,
        "train/step_ms": step.step_ms,
        "pairing/distance_ratio": step.after / step.before,
        "pairing/mean_square": step.mean_square,
        "pairing/ms": step.pairing_ms,
    }
    for count, score in (point.scores if point else {}).items():
        line |= {f"eval/{name}@{count}": value for name, value in dataclasses.asdict(score).items()}
    return line
