"""Is my training step right? A check for other people's loops, in NumPy, torch, JAX or any array-API library.

The step gets images that can be told apart, a tag for each, and an oracle in place of the network. The oracle looks the
image x up by its tag, recovers the noise n = (x_t - a x) / b and answers the exact target. The loss is then zero if and
only if the noise that corrupts is the noise in the target and the tags stayed with their images.

Zero means: less than half of the least loss found when every number of the answers is moved by max(MARGIN e, sqrt u); e
bounds the rounding of the answers (`_rounding` in `contract_oracle.py`), u is half the machine epsilon, and a loss that is
a difference of numbers near one resolves no less than sqrt u. Weights and reductions cancel. Both sides are CALLS calls with
the step's own draws: were the loss blind to the movement, the two would part with a probability below 1/C(2 CALLS, CALLS) < 1e-6.

Shape suffixes: B images, D numbers per image, R rows of one call of the predictor, T steps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from immref_spec.bands import Values
from immref_spec.compare import FALSE_FAIL
from immref_spec.contract_oracle import (
    CALLS,
    MARGIN,
    PREDICTIONS,
    Array,
    Batch,
    Claim,
    ContractError,
    Run,
    Seen,
    batch_like,
    claim_of,
    run_step,
)

__all__ = ["ContractError", "StepReport", "check_training_step"]

TRIES = 10  # calls made at most for each that is judged

CHECKED = (
    "the loss is zero for the exact prediction and for no other",
    "conditions stay with their images, and every image is shown",
    "x and cond are left as they were; the loss is finite and never negative",
)
UNSEEN = (
    "whether the pairing chose well: any noise passes, vanilla too, standard normal or not",
    "noise that repeats from call to call or is shared between ranks",
    "which t are drawn, and how the loss is weighted",
    "what becomes of the loss: gradients, optimizer, learning rate, moving average",
    "the network, what comes before the step (data, encoder), and sampling",
)


@dataclass(frozen=True)
class StepReport:
    """What was found about a step that passed; `str` of it is a report.

    Attributes
    ----------
    loss, band : the largest loss for the exact prediction; half of the least for answers moved by `resolution`
    resolution : a target that is off by less than this passes; the noise's standard deviation is 1
    mean_square : of the noise recovered from x_t; 1 for standard normal noise, if the schedule and t are right
    checked, unseen : tuples of sentences
    """

    loss: float
    band: float
    resolution: float
    mean_square: float
    checked: tuple[str, ...]
    unseen: tuple[str, ...]

    def __str__(self) -> str:
        head = (
            f"The training step is right: loss {self.loss:.3g} for the exact prediction, allowed {self.band:.3g}.\n"
            f"The noise in x_t has mean square {self.mean_square:.3g}; standard normal noise has 1.\n"
        )
        return head + "\n- ".join(["Checked:", *self.checked]) + "\n- ".join(["\nNot seen:", *self.unseen])


def check_training_step(
    step: Callable[..., Any], *, x: Array, schedule: Any, prediction: str, scale: float = 1.0, time_units: float = 1.0
) -> StepReport:
    """Judge a training step by an oracle in place of its network.

    Parameters
    ----------
    step : callable (x, cond, predictor) → loss
        x are images like the example, cond (B,) integer tags in the place of labels or prompts; ``predictor(x_t, t, cond)``,
        of shapes (R, ...), (R,), (R,), stands for the network and may be called several times (micro-batches, self-conditioning).
        The loss is one number, zero for an exact prediction and positive else, with no offset and no sign. Weights, sums and
        means are welcome; a weight that differs by thousands between two t, such as a plain signal-to-noise ratio, must be left
        off. It may call ``backward``, not the optimizer. Switch augmentation and the dropping of conditions off.
    x : real floating array (B, ...), B ≥ 3
        An example: its shape, dtype, library and device matter; the images made hold ±1/2 and ±1. In half precision, calls with
        a t where rounding drowns the noise are not judged; bfloat16 leaves few or none, so give float32. Inside autocast the oracle
        answers in the dtype of x_t.
    schedule : callable t_R → (a_R, b_R) on NumPy arrays, or table (T,) of alpha-bar
        Of x_t = a x + b n; a table means (sqrt(alpha-bar), sqrt(1 - alpha-bar)) at integer t.
    prediction : 'epsilon' (n), 'v_prediction' (a n - b x), 'sample' (x) or 'velocity' (a' x + b' n)
        A flow's x - n is ``lambda t: (t, 1 - t)``, its n - x is ``lambda t: (1 - t, t)``.
    scale : float > 0
        The image scaling inside the step (Section 3.3.3).
    time_units : float > 0
        The network's t divided by the schedule's: 1000 where the network gets 1000 t and the schedule takes t in [0, 1].

    Raises
    ------
    ContractError
        An AssertionError that says what is probably wrong, and where.
    TypeError, ValueError
        For wrong arguments of the check itself.

    Examples
    --------
    >>> import numpy as np, immref
    >>> def step(x, cond, predictor):
    ...     noise, t = immref.knn(x, k=4), np.random.default_rng().random(len(x))
    ...     x_t = t[:, None] * x + (1 - t[:, None]) * noise
    ...     return np.mean((predictor(x_t, t, cond) - (x - noise)) ** 2)
    >>> report = check_training_step(step, x=np.zeros((8, 64)), schedule=lambda t: (t, 1 - t), prediction="velocity")
    >>> report.loss < report.band
    True
    """
    if not callable(step):
        raise TypeError(f"step must be a callable (x, cond, predictor) → loss, got {type(step).__name__}")
    batch, claim = batch_like(x), claim_of(schedule, prediction, scale, time_units)
    verdict = _judge(step, batch, claim)
    if not verdict.holds or verdict.misplaced:
        found = "" if np.isnan(verdict.band) else f" (loss {verdict.loss:.3g}, allowed {verdict.band:.3g})"
        raise ContractError(_diagnosis(step, batch, claim, verdict) + found)
    unseen: tuple[str, ...] = (*UNSEEN, f"a target that is off by less than {verdict.resolution:.2g}")
    if prediction == "sample":
        unseen += ("the noise, the schedule and t, but for the mean square above: the target 'sample' holds none of them",)
    return StepReport(verdict.loss, verdict.band, verdict.resolution, verdict.mean_square, CHECKED, unseen)


@dataclass(frozen=True)
class _Verdict:
    """The largest loss for exact answers, half of the least for moved ones, the movement, and the calls with exact answers."""

    loss: float
    band: float
    resolution: float
    exact: list[Run]

    @property
    def misplaced(self) -> bool:
        return any(seen.misplaced for run in self.exact for seen in run.seen)

    @property
    def energy(self) -> Values:
        """|n|² of the noises recovered where that can be judged, and of how many numbers."""
        return np.asarray(np.sum([seen.energy for run in self.exact if run.judged for seen in run.seen], axis=0))

    @property
    def mean_square(self) -> float:
        return float(self.energy[0] / self.energy[1])

    @property
    def holds(self) -> bool:
        return self.loss < self.band  # both are NaN where too few calls could be judged


def _judge(step: Callable[..., Any], batch: Batch, claim: Claim) -> _Verdict:
    exact = _runs(step, batch, claim, 0.0)
    judged = [run for run in exact if run.judged]
    if len(judged) == CALLS:
        units = [seen.unit for run in judged for seen in run.seen]
        resolution = float(np.max([MARGIN * run.error for run in judged] + list(np.sqrt(units))))
        moved = [run.loss for run in _runs(step, batch, claim, resolution) if run.judged]
        if len(moved) == CALLS:
            return _Verdict(max(run.loss for run in judged), min(moved) / 2, resolution, exact)
    return _Verdict(np.nan, np.nan, np.nan, exact)


def _runs(step: Callable[..., Any], batch: Batch, claim: Claim, moved: float) -> list[Run]:
    """Calls of the step until CALLS of them can be judged."""
    runs: list[Run] = []
    while sum(run.judged for run in runs) < CALLS and len(runs) < TRIES * CALLS:
        runs.append(run_step(step, batch, claim, moved))
        if not 0 <= runs[-1].loss < np.inf:
            raise ContractError(f"the loss must be finite and not negative (return it without offset or sign), got {runs[-1].loss}")
    return runs


def _diagnosis(step: Callable[..., Any], batch: Batch, claim: Claim, verdict: _Verdict) -> str:
    """What is probably wrong with a step that does not hold."""
    seen = [seen for run in verdict.exact for seen in run.seen]
    if verdict.misplaced:
        if all((np.diff(one.rows) >= 0).all() for one in seen):
            return "the images were reordered and their conditions were not: only noise may move, never x"
        return "the conditions do not belong to their images: cond was reordered, or x was, before the predictor got them"
    if not _depends(step, batch, claim, verdict):
        return "the loss does not depend on what the predictor answers: the step returns a constant, or compares something else"
    for sentence, other in _alternatives(claim, seen):
        if _explains(step, batch, other):
            return sentence
    if np.isnan(verdict.band):
        judged = sum(run.judged for run in verdict.exact)
        return (
            f"{judged} of {len(verdict.exact)} calls could be judged, {CALLS} are wanted: where b is small, rounding drowns the noise "
            "in x_t; give x in float32 or fewer images, and see that the schedule is the step's"
        )
    if claim.prediction == "sample":
        return "the target is not the image that the predictor's condition belongs to, or the loss has a term besides"
    if stats.chi2.sf(*verdict.energy) < FALSE_FAIL:
        return (
            "x_t is not a x + b n at the t that the predictor gets: the t given to the network is not the t that corrupts, or the "
            f"schedule is another one (the noise recovered has mean square {verdict.mean_square:.3g}, not about 1)"
        )
    return (
        "the noise that corrupts is not the noise in the target: one of them was permuted or drawn again "
        "(make x_t and the target from one variable); or the loss has a term that is not zero for the exact "
        "prediction, or weights that differ by thousands"
    )


def _depends(step: Callable[..., Any], batch: Batch, claim: Claim, verdict: _Verdict) -> bool:
    """Whether an answer of NaN is noticed, and small movements are not lost on a loss of zero."""
    if verdict.loss == 0:
        return False
    try:
        return not np.isfinite(run_step(step, batch, claim, np.nan).loss)
    except Exception:  # the step itself refuses a loss that is not finite
        return True


def _explains(step: Callable[..., Any], batch: Batch, claim: Claim) -> bool:
    try:
        return _judge(step, batch, claim).holds
    except ContractError:
        return False


def _alternatives(claim: Claim, seen: list[Seen]) -> Iterator[tuple[str, Claim]]:
    """Other claims that a step may fulfil, each with the sentence that this would prove."""
    continuous = not claim.table and not all(one.whole for one in seen)
    for other in PREDICTIONS:
        if other != claim.prediction and (other != "velocity" or continuous):
            yield f"the target is that of prediction {other!r}, not of {claim.prediction!r}", replace(claim, prediction=other)
    yield "the target has the opposite sign", replace(claim, sign=-1.0)
    if claim.scale != 1:
        yield (
            "the target holds the image without its scale, x_t holds it with: take both from the scaled one",
            replace(claim, target_scale=1.0),
        )
    along, length = np.sum([one.share for one in seen], axis=0)
    factor = float(f"{claim.scale * along / length:.2g}") if along > 0 and np.isfinite(length) else claim.scale
    if factor != claim.scale:
        yield f"the images are scaled by {factor:g} in the step: pass scale={factor:g}", replace(claim, scale=factor, target_scale=factor)

    def through(change: Callable[[Any, Any], tuple[Any, Any]]) -> Claim:
        return replace(claim, coefficients=lambda t: change(*claim.coefficients(t)))

    yield "a and b have changed places: time runs the other way, in the step or in the schedule", through(lambda a, b: (b, a))
    root = "alpha-bar stands where its square root belongs, at the"
    yield f"{root} image", through(lambda a, b: (a**2, b))
    yield f"{root} noise (1 - alpha-bar)", through(lambda a, b: (a, b**2))
    yield f"{root} image and the noise (1 - alpha-bar)", through(lambda a, b: (a**2, b**2))
    if not claim.table:
        for units in (claim.time_units * 1000, claim.time_units / 1000):
            yield f"the predictor gets t in other units: pass time_units={units:g}", replace(claim, time_units=units)
    else:
        for by, place in ((1, "t + 1"), (-1, "t - 1")):
            sentence = f"the t given to the network is not the t that corrupts: off by one, x_t is made at {place}"
            yield sentence, replace(claim, coefficients=partial(_shifted, claim, by))


def _shifted(claim: Claim, by: int, t_R: Values) -> Any:
    return claim.coefficients(t_R + by)
