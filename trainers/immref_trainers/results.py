"""The numbers of a comparison: what is measured, and what is worked out from it. No torch, no drawing."""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from immref import Pairing
from immref.miscibility import Skew
from immref_trainers.config import Run


@dataclass(frozen=True)
class Environment:
    """What a run's record says about the machine it ran on."""

    device: str
    backend: str
    threads: int
    python: str
    machine: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Score:
    """Fréchet distances to the training images, to them in a second network's features, and to held-out images.

    The matched prior starts from noise that the held-out images chose: there the last is not a distance to unseen images.

    Attributes
    ----------
    accuracy : share of samples that the feature network calls by the label that was asked for; None where none was
    fd_within_class : mean over labels of the distance of a label's samples to its training images; None likewise
    clip_score : mean of 100 cos between samples and their prompts; None without prompts or a CLIP model
    """

    fd: float
    fd_second_features: float
    fd_held_out: float
    accuracy: float | None = None
    fd_within_class: float | None = None
    clip_score: float | None = None


@dataclass(frozen=True)
class Nearness:
    """Are samples copies of training images? L2 distances in pixels to the nearest training image.

    Attributes
    ----------
    samples, held_out : medians
    copies : share of samples nearer to a training image than 99 % of held-out images are
    """

    samples: float
    held_out: float
    copies: float

    @property
    def ratio(self) -> float:
        """1 where samples are as new as unseen images; 0 for copies; infinite where held-out images were trained on."""
        return self.samples / self.held_out if self.held_out else math.inf


@dataclass(frozen=True)
class OneStep:
    """Images that a consistency model makes in one step, beside those to which the exact field leads from the same noise.

    Attributes
    ----------
    apart : root mean square of the differences, pixel by pixel
    chance : the same with images that the exact field makes of other noise
    """

    apart: float
    chance: float


Scores = dict[int, Score]  # by the sampler's steps


@dataclass(frozen=True)
class Point:
    """Scores of the averaged weights after `step` training steps, sampled from N(0, I)."""

    step: int
    scores: Scores

    def __str__(self) -> str:
        return "Fréchet distance " + ", ".join(f"{score.fd:.3f} at {counted(count)}" for count, score in self.scores.items())


@dataclass(frozen=True)
class Covered:
    """Roll-outs of a policy.

    Attributes
    ----------
    score : mean over the starts of the largest reward of an episode: coverage over 0.95, at most 1
    standard_error : of that mean, over the starts
    solved : share of the episodes in which the T came to lie in place
    action_error : root mean square difference between drawn and demonstrated actions of held-out episodes, in pixels
    """

    score: float
    standard_error: float
    solved: float
    action_error: float


@dataclass(frozen=True)
class RolledPoint:
    """Roll-outs of the averaged weights after `step` training steps, by the sampler's steps."""

    step: int
    scores: dict[int, Covered]

    def __str__(self) -> str:
        scores = (f"{score.score:.1%} ± {score.standard_error:.1%} in {counted(count)}" for count, score in self.scores.items())
        return "coverage " + ", ".join(scores)


Evaluated = Point | RolledPoint


class HasRun(Protocol):
    """The outcome of a run, whatever was measured."""

    @property
    def run(self) -> Run:
        """Its record."""


Ran = TypeVar("Ran", bound=HasRun)


@dataclass(frozen=True)
class Dose:
    """What pairing did to the noise, and what it cost.

    Attributes
    ----------
    distance_drop : relative change of the mean image-noise distance
    mean_square : E n² of the noise used
    pairing_ms, step_ms : medians over the run
    """

    distance_drop: float
    mean_square: float
    pairing_ms: float
    step_ms: float

    @property
    def share(self) -> float:
        """Share of a training step that goes into pairing."""
        return self.pairing_ms / self.step_ms


@dataclass(frozen=True)
class Outcome:
    """One trained run.

    Attributes
    ----------
    skew : how well a linear classifier told the label from the noise of training; None without labels
    one_step : of a consistency model whose exact field is known, beside that field
    seconds : that the training steps took, evaluations aside
    """

    run: Run
    curve: list[Point]
    priors: dict[str, Scores]
    dose: Dose
    nearest: Nearness
    skew: Skew | None
    one_step: OneStep | None
    seconds: float


@dataclass(frozen=True)
class ExactRow:
    """Samples of the exact, training-free field for one pairing."""

    pairing: Pairing
    fd: dict[int, float]
    fd_matched: dict[int, float]
    curvature: float


@dataclass(frozen=True)
class Comparison:
    """Everything that `results.json` holds."""

    recipe: str
    command: str
    environment: Environment
    features: str
    features_quality: str
    floor: list[Score]
    floor_exact: list[Score]
    exact: list[ExactRow]
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Speedup:
    """Vanilla's step of best distance over the interpolated step that reaches it.

    `ratio` is None where it is never reached, a lower bound where the first evaluation is already as good.
    """

    ratio: float | None
    at_least: bool = False

    def __str__(self) -> str:
        return "never reached" if self.ratio is None else f"{'≥ ' if self.at_least else ''}{self.ratio:.1f}×"


def speedup(vanilla: list[Point], other: list[Point], steps: int) -> Speedup:
    """Figure 5's measure at `steps` sampler steps."""
    best = min(vanilla, key=lambda point: point.scores[steps].fd)
    goal = best.scores[steps].fd
    previous = None
    for point in other:
        value = point.scores[steps].fd
        if value <= goal:
            if previous is None:
                return Speedup(best.step / point.step, at_least=True)
            part = (previous.scores[steps].fd - goal) / (previous.scores[steps].fd - value)
            return Speedup(best.step / (previous.step + part * (point.step - previous.step)))
        previous = point
    return Speedup(None)


def counted(steps: int) -> str:
    """'4 steps', '1 step', 'adaptive steps'."""
    return f"{steps or 'adaptive'} step{'' if steps == 1 else 's'}"


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (NaN for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def written(values: list[float], digits: int = 3) -> str:
    """'0.361 ± 0.033', or the number alone where there is one."""
    mean, deviation = spread(values)
    return f"{mean:.{digits}f}" if math.isnan(deviation) else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def by_pairing(comparison: Comparison) -> dict[Pairing, list[Outcome]]:
    """The outcomes of every seed, grouped by pairing in the order they were asked for."""
    return grouped(comparison.outcomes)


def grouped(outcomes: list[Ran]) -> dict[Pairing, list[Ran]]:
    """Outcomes of runs by their pairings, in the order in which these come."""
    groups: dict[Pairing, list[Ran]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.run.pairing, []).append(outcome)
    return groups


def speedups(comparison: Comparison, pairing: Pairing, steps: int, *, by_time: bool = False) -> list[Speedup]:
    """One speed-up per seed, each against vanilla of the same seed; `by_time` in training time instead of training steps."""
    vanilla = {outcome.run.seed: outcome for outcome in by_pairing(comparison)[Pairing()]}
    found = []
    for outcome in by_pairing(comparison)[pairing]:
        base = vanilla[outcome.run.seed]
        by_steps = speedup(base.curve, outcome.curve, steps)
        slower = outcome.dose.step_ms / base.dose.step_ms if by_time else 1.0
        found.append(replace(by_steps, ratio=None if by_steps.ratio is None else by_steps.ratio / slower))
    return found
