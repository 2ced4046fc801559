"""Samples of the averaged network, judged: on the way from N(0, I), and at the end under every prior."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np
from accelerate import Accelerator

from immref import Pairing
from immref.miscibility import Skew, class_skew
from immref_trainers import exact_field, samplers, streams
from immref_trainers.config import Consistency
from immref_trainers.data.training import CHUNK, Images, Source
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Trainer
from immref_trainers.metrics.judge import LOOKED_AT, Judge
from immref_trainers.results import Nearness, OneStep, Score, Scores
from immref_trainers.samplers import priors

FloatArray = np.ndarray[Any, Any]
Start = tuple[FloatArray, FloatArray | None]  # starting noise (M, ...) and the labels (M,) that are asked for

LEAST = 4  # noises of a label by which it can be told
PIECE = 2**27  # numbers of the images that are judged at once
GRID = 48  # samples kept as pictures
FIELD_POINTS = 300  # samples compared with the exact field's


@dataclass(frozen=True)
class Ended:
    """What is measured once, at the end of training.

    Attributes
    ----------
    fitted : the moment prior
    priors : scores by prior, all but the one from N(0, I), which the curve ends with
    nearest : whether samples are copies of training images
    skew : how well a linear classifier tells the label, or the kind of caption, from the noise of training; None without labels
    one_step : a consistency model beside the exact field; None where there is none
    pictures : the first samples from N(0, I), by the sampler's steps
    """

    fitted: dict[str, FloatArray]
    priors: dict[str, Scores]
    nearest: Nearness
    skew: Skew | None
    one_step: OneStep | None
    pictures: dict[int, FloatArray]


def curve_scores(trainer: Trainer, judge: Judge) -> Scores:
    """Scores from N(0, I): the same noise for every pairing and at every evaluation of a seed."""
    return judge_samples(trainer, judge, gaussian_starts(trainer))


def at_the_end(trainer: Trainer, images: Images, judge: Judge) -> Ended:
    """Everything that is measured once."""
    run, starts = trainer.run, gaussian_starts(trainer)
    produced, labels = paired(trainer, trainer.space.train, priors.measured(trainer.space.train.shape), 0)
    fitted = priors.fit_moment(produced)
    scores = {
        "moment": judge_samples(trainer, judge, [(priors.moment(fitted, noise), labels) for noise, labels in starts]),
        "matched": judge_samples(
            trainer,
            judge,
            [paired(trainer, trainer.space.held_out, run.evaluation.num_samples, 1 + draw) for draw in range(run.evaluation.draws)],
        ),
    }
    if run.pairing == Pairing():
        for std in run.evaluation.temperatures:
            warmer = [(np.float32(std) * noise, labels) for noise, labels in starts]
            scores[f"noise ×{std:g}"] = judge_samples(trainer, judge, warmer)
    most = max(run.evaluation.sampler_steps, key=lambda steps: steps or np.inf)
    return Ended(
        fitted,
        scores,
        judge.nearest(sample(trainer, first(starts[0], LOOKED_AT), most)),
        None if labels is None else skew_of(produced, trainer.space.kinds(labels)),
        beside_exact_field(trainer, images, first(starts[0], FIELD_POINTS)),
        {steps: sample(trainer, first(starts[0], GRID), steps) for steps in run.evaluation.sampler_steps},
    )


def beside_exact_field(trainer: Trainer, images: Images, start: Start) -> OneStep | None:
    """A consistency model's images in one step beside those of the exact field, where that is known: not for linear assignment."""
    run = trainer.run
    known = isinstance(run.objective, Consistency) and run.pairing.method != "linear_assignment" and not run.network.class_conditional
    if not known or 1 not in run.evaluation.sampler_steps or not exact_field.fits(images, run):
        return None
    made, noise = (array.reshape(len(array), -1) for array in (sample(trainer, start, 1), start[0]))
    exact = exact_field.ends(images, run, noise)
    apart, chance = (float(np.sqrt(np.square(made - ends).mean())) for ends in (exact, np.roll(exact, 1, axis=0)))
    return OneStep(apart, chance)


def gaussian_starts(trainer: Trainer) -> list[Start]:
    """Fixed noise from N(0, I), a set for each draw; labels in turn where the network is told any."""
    settings, shape = trainer.run.evaluation, trainer.space.train.shape
    labels = trainer.space.asked(settings.num_samples) if trainer.run.network.class_conditional else None
    return [(priors.gaussian((settings.num_samples, *shape), trainer.run.seed, draw), labels) for draw in range(settings.draws)]


def paired(trainer: Trainer, source: Source, count: int, draw: int) -> Start:
    """Noise that the pairing chose for images of `source`, and their labels."""
    run = trainer.run
    window = run.train_batch_size * run.gradient_accumulation_steps
    noise, labels = priors.paired_noise(source, run.pairing, window, count, run.seed, trainer.place, draw)
    return noise, labels if run.network.class_conditional else None


def skew_of(noise: FloatArray, labels: FloatArray) -> Skew | None:
    """How well labels are told by their noise, over labels that have enough of it; None where fewer than two have."""
    known, number, count = np.unique(labels, return_inverse=True, return_counts=True)
    rows = (count >= LEAST)[number]
    if len(known[count >= LEAST]) < 2:
        return None
    return class_skew(noise[rows], labels[rows])


def judge_samples(trainer: Trainer, judge: Judge, starts: list[Start]) -> Scores:
    """Scores by the sampler's steps, means over the sets of starting noise."""
    scores = {}
    for steps in trainer.run.evaluation.sampler_steps:
        scores[steps] = mean_score([judge.score_pieces(sampled(trainer, start, steps, judge.images)) for start in starts])
    return scores


def sampled(trainer: Trainer, start: Start, steps: int, images: Images) -> Iterator[Start]:
    """Samples of a start and their labels, as many at a time as fit into memory as images."""
    noise, labels = start
    size = max(CHUNK, PIECE // math.prod(images.train.shape) // CHUNK * CHUNK)
    for begun in range(0, len(noise), size):
        rows = slice(begun, begun + size)
        part = None if labels is None else labels[rows]
        samples = sample(trainer, (noise[rows], part), steps, begun)
        if not np.isfinite(samples).all():
            raise TrainingError(f"samples are not finite with learning rate {trainer.run.optimizer.learning_rate:g}; try a smaller one")
        yield samples, part


def sample(trainer: Trainer, start: Start, steps: int, begun: int = 0) -> FloatArray:
    """Samples (M, ...) of the averaged network, image scaling undone, after `begun` others; processes share the work."""
    accelerator, (noise, labels) = trainer.accelerator, start
    each = -(-len(noise) // accelerator.num_processes)
    rows = (accelerator.process_index * each + np.arange(each)) % len(noise)  # the last process fills up from the front
    predict = samplers.guided(trainer.predictor(trainer.average), trainer.run.sampler.guidance_scale, trainer.space.unasked)
    part = samplers.sample(
        trainer.run,
        predict,
        trainer.place(noise[rows]),
        steps,
        trainer.space.train.largest,
        None if labels is None else trainer.place(labels[rows]),
        streams.generator(streams.RENOISE, trainer.run.seed, begun, accelerator.process_index),
    )
    part = trainer.space.decode(part)
    if accelerator.num_processes == 1:
        return part.numpy()
    whole: FloatArray = accelerator.gather(part.to(accelerator.device)).cpu().numpy()
    return whole[: len(noise)]


def first(start: Start, count: int) -> Start:
    """The first `count` of a start."""
    noise, labels = start
    return noise[:count], None if labels is None else labels[:count]


def mean_score(scores: list[Score]) -> Score:
    """The mean of every view that all have."""
    columns: dict[str, list[Any]] = {field.name: [getattr(score, field.name) for score in scores] for field in fields(Score)}
    means: dict[str, Any] = {name: None if None in values else fmean(values) for name, values in columns.items()}
    return Score(**means)


def any_process(accelerator: Accelerator, here: bool) -> bool:
    """Whether it holds in any process."""
    if accelerator.num_processes == 1:
        return here
    import torch

    return bool(accelerator.reduce(torch.tensor(float(here), device=accelerator.device), "sum") > 0)
