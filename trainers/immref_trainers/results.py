"""The numbers of a comparison: what is measured, and what is worked out from it. No torch, no drawing."""

import math
import statistics
from dataclasses import dataclass

from immref import Pairing
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
    """

    fd: float
    fd_second_features: float
    fd_held_out: float


Scores = dict[int, Score]  # by the sampler's steps


@dataclass(frozen=True)
class Point:
    """Scores of the averaged weights after `step` training steps, sampled from N(0, I)."""

    step: int
    scores: Scores


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
    """One trained run."""

    run: Run
    curve: list[Point]
    priors: dict[str, Scores]
    dose: Dose
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
    feature_accuracy: float
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
    """'4 steps', '1 step'."""
    return f"{steps} step{'' if steps == 1 else 's'}"


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (NaN for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def written(values: list[float], digits: int = 3) -> str:
    """'0.361 ± 0.033', or the number alone where there is one."""
    mean, deviation = spread(values)
    return f"{mean:.{digits}f}" if math.isnan(deviation) else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def by_pairing(comparison: Comparison) -> dict[Pairing, list[Outcome]]:
    """The outcomes of every seed, grouped by pairing in the order they were asked for."""
    groups: dict[Pairing, list[Outcome]] = {}
    for outcome in comparison.outcomes:
        groups.setdefault(outcome.run.pairing, []).append(outcome)
    return groups


def speedups(comparison: Comparison, pairing: Pairing, steps: int) -> list[Speedup]:
    """One speed-up per seed, each against vanilla of the same seed."""
    vanilla = {outcome.run.seed: outcome.curve for outcome in by_pairing(comparison)[Pairing()]}
    return [speedup(vanilla[outcome.run.seed], outcome.curve, steps) for outcome in by_pairing(comparison)[pairing]]
