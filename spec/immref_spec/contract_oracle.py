"""The oracle that stands for the network of a training step under judgement (`contracts.py`).

Shape suffixes: B images, D numbers per image, R rows of one call of the predictor, T steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj
from scipy import stats

from immref import _checks
from immref.assignment import to_host
from immref.dispatch import uncompiled
from immref_spec.bands import Values
from immref_spec.compare import FALSE_FAIL

Array = Any  # any array of an array-API library

PREDICTIONS = ("epsilon", "v_prediction", "sample", "velocity")
CALLS = 12  # with exact answers, and as many with moved ones
FEWEST_IMAGES = 3  # (1/3!)^CALLS: a random permutation is not the identity in every call
MARGIN = 4.0  # a bound exceeds what rounding does; by this much more may the weights of two calls differ
LARGEST_MOVE = 0.5  # standard deviations of the noise; a call whose rounding asks for more is not judged
SLOPE_STEP = float(np.finfo(np.float64).eps ** (1 / 3))  # a central difference is then known to about its square


class ContractError(AssertionError):
    """A training step does not do what its author says; the sentence names the likely mistake."""


@dataclass(frozen=True)
class Batch:
    """The images and their tags 1 … B as the step gets them, and the images' values."""

    x: Array
    cond: Array
    values: Values  # (B, D)


def batch_like(x: Array) -> Batch:
    """Images of ±1/2 and ±1, exact in every dtype, shaped like `x`."""
    xp = _checks.check_images(x)
    if x.shape[0] < FEWEST_IMAGES:
        raise ValueError(f"x must hold at least {FEWEST_IMAGES} images, so that a permutation shows, got {_checks.describe(x)}")
    values = np.random.default_rng(0).choice([-1.0, -0.5, 0.5, 1.0], tuple(x.shape))
    tags = xp.arange(1, x.shape[0] + 1, device=device(x))
    return Batch(xp.asarray(values, dtype=x.dtype, device=device(x)), tags, values.reshape(x.shape[0], -1))


@dataclass(frozen=True)
class Claim:
    """What the step is said to do; a diagnosis tries others."""

    coefficients: Callable[[Values], Any]
    table: bool
    prediction: str
    scale: float
    target_scale: float  # of the image in the target: the same, if nothing is wrong
    time_units: float
    sign: float = 1.0

    def at(self, t_R: Values) -> Values:
        """(a, b), of shape (2, R)."""
        c = np.asarray(self.coefficients(t_R), dtype=np.float64)
        if c.shape != (2, *t_R.shape):
            raise ValueError(f"schedule must return a and b, each of the shape of t {t_R.shape}, got {c.shape} for both")
        return c

    def slopes(self, t_R: Values) -> Values:
        """(a', b'), exact up to rounding where a and b are linear in t."""
        return (self.at(t_R + SLOPE_STEP) - self.at(t_R - SLOPE_STEP)) / (2 * SLOPE_STEP)


def claim_of(schedule: Any, prediction: str, scale: float, time_units: float) -> Claim:
    """The claim that the caller's arguments make, once they are checked."""
    _checks.check_choice(prediction, "prediction", PREDICTIONS)
    factor = _checks.check_scale(scale)
    if not (isinstance(time_units, int | float) and 0 < time_units < np.inf):
        raise ValueError(f"time_units must be a number, finite and > 0, got {time_units!r}")
    if callable(schedule):
        return Claim(schedule, False, prediction, factor, factor, time_units)
    table_T = values_of(schedule) if is_array_api_obj(schedule) else np.asarray(schedule, dtype=np.float64)
    if table_T.ndim != 1 or not ((table_T >= 0) & (table_T <= 1)).all() or not (np.diff(table_T) <= 0).all():
        raise ValueError(f"schedule must be a callable or a table (T,) of alpha-bar, which falls from 1 towards 0, got {schedule!r}")
    if prediction == "velocity":
        raise ValueError("prediction 'velocity' needs the slopes of a and b: schedule must be a callable t → (a, b), got a table")

    def coefficients(t_R: Values) -> tuple[Values, Values]:
        index_R = np.rint(t_R).astype(np.int64)
        if (index_R != t_R).any() or (index_R < 0).any() or (index_R >= len(table_T)).any():
            raise ContractError(
                f"the predictor got t from {t_R.min():.6g} to {t_R.max():.6g} (in time_units), not all of them places 0 … "
                f"{len(table_T) - 1} of the table: is t counted from 1, or multiplied for the network?"
            )
        return np.sqrt(table_T[index_R]), np.sqrt(1 - table_T[index_R])

    return Claim(coefficients, True, prediction, factor, factor, time_units)


@dataclass(frozen=True)
class Seen:
    """What one call of the predictor showed."""

    rows: Values  # of the images, (R,)
    whole: bool  # all t are whole numbers
    unit: float  # u of the coarser of x and x_t
    error: float  # the largest e
    misplaced: bool  # another image than the tag's explains some x_t
    energy: Values  # |n|² of the noises recovered, and of how many numbers
    share: Values  # <x_t, a x> and |a x|² in units of b², about equal where the images have the scale claimed


class Oracle:
    """The predictor that knows the images; each number of its answers is off by at least `moved`."""

    def __init__(self, batch: Batch, claim: Claim, moved: float) -> None:
        self.batch, self.claim, self.moved = batch, claim, moved
        self.seen: list[Seen] = []

    @uncompiled
    def __call__(self, x_t: Array, t: Array, cond: Array) -> Array:
        """The target (R, ...) in x_t's dtype, moved."""
        row_R, claim, unit = _rows(self.batch, x_t, t, cond), self.claim, max(unit_of(x_t), unit_of(self.batch.x))
        x_RD, x_t_RD = self.batch.values[row_R], values_of(x_t).reshape(len(row_R), -1)
        t_R = values_of(t) / claim.time_units
        drift_R = 2 * unit_of(t) * np.abs(t_R)  # how far the step's own t may be
        t_R = np.where(claim.table & (np.abs(t_R - np.rint(t_R)) <= drift_R), np.rint(t_R), t_R)
        whole = bool((t_R == np.rint(t_R)).all())
        with np.errstate(all="ignore"):  # where b = 0 no noise can be recovered: e is infinite
            c = claim.at(t_R.astype(np.int64) if whole else t_R)[..., None]  # a and b
            slopes = claim.slopes(t_R)[..., None] if claim.prediction == "velocity" or not whole else 0 * c
            ax_RD = c[0] * claim.scale * x_RD
            n_RD = np.where(c[1] == 0, 0, (x_t_RD - ax_RD) / c[1])
            trust = np.where(c[1] == 0, 0, c[1] ** -2.0)  # where the noise is small, the image's scale is known best
            parts = {"epsilon": 0 * c + [[[0]], [[1]]], "sample": 0 * c + [[[1]], [[0]]], "v_prediction": c[::-1] * [[[-1]], [[1]]]}
            of = parts.get(claim.prediction, slopes)  # the target is of[0] x + of[1] n
            target_RD = claim.sign * (of[0] * claim.target_scale * x_RD + of[1] * n_RD)
            values = np.abs(np.stack([claim.scale * x_RD, n_RD]))
            e_RD = _rounding(claim.prediction, c, drift_R[:, None] * slopes, of, values, unit)
        signs_RD = np.random.default_rng(1).choice([-1.0, 1.0], e_RD.shape)
        answer_RD = np.nan_to_num(target_RD) + (signs_RD * (self.moved + np.nan_to_num(e_RD, posinf=0)) if self.moved else 0)
        misplaced = _misplaced(self.batch.values, row_R, x_t_RD)
        energy, share = np.asarray([np.sum(n_RD**2), n_RD.size]), np.sum(ax_RD * np.stack([x_t_RD, ax_RD]) * trust, axis=(1, 2))
        self.seen.append(Seen(row_R, whole, unit, float(np.max(e_RD)), misplaced, energy, share))
        answer = array_namespace(x_t).asarray(answer_RD.reshape(tuple(x_t.shape)), dtype=x_t.dtype, device=device(x_t))
        return answer.requires_grad_() if hasattr(answer, "requires_grad_") else answer  # backward needs a leaf


def _rounding(prediction: str, c: Values, drift: Values, of: Values, values: Values, unit: float) -> Values:
    """The bound e on an answer's distance to the step's target: first order, elementwise, from x_t's error times |of n| / b.

    c, drift, of and values hold two rows each: of the image and of the noise. Either coefficient may be the root of a
    number near one that is known to u. Three roundings make x_t, four the target and the answer.
    """
    known = unit * 2 * np.abs(c) + np.minimum(unit / (2 * np.abs(c)), np.sqrt(unit))
    corrupted_RD = np.sum((known + 3 * unit * np.abs(c) + np.abs(drift)) * values, axis=0)
    own = {"v_prediction": known[::-1], "velocity": 0 * c + 2 * SLOPE_STEP**2}.get(prediction, 0 * c)
    amplified = np.where(of[1] == 0, 0, np.abs(of[1] / c[1]) * corrupted_RD)
    return np.asarray(amplified + np.sum((own + 4 * unit * np.abs(of)) * values, axis=0))


def _rows(batch: Batch, x_t: Array, t: Array, cond: Array) -> Values:
    """The rows of the images that `cond` names, where the predictor was called as it must be."""
    for name, array in (("x_t", x_t), ("t", t), ("cond", cond)):
        if not is_array_api_obj(array) or "Tracer" in type(array).__name__:
            raise ContractError(f"the predictor's {name} must be an array (no jax.jit around the step), got {type(array).__name__}")
    shape = tuple(x_t.shape)
    if _checks.library_of(x_t) != _checks.library_of(batch.x) or shape[1:] != tuple(batch.x.shape[1:]) or not unit_of(x_t):
        raise ContractError(f"the predictor must get x_t like the images, {_checks.describe(batch.x)}, got {_checks.describe(x_t)}")
    for name, array in (("t", t), ("cond", cond)):
        if tuple(array.shape) != shape[:1]:
            raise ContractError(f"the predictor must get one {name} for each row of x_t {shape}, got {name} of shape {tuple(array.shape)}")
    tag_R = values_of(cond)
    if not np.isin(tag_R, np.arange(1, len(batch.values) + 1)).all():
        raise ContractError(
            f"cond holds values that are no tags, such as {tag_R.min():g}: switch the dropping of conditions off for the check"
        )
    return tag_R.astype(np.int64) - 1


def _misplaced(x_BD: Values, row_R: Values, x_t_RD: Values) -> bool:
    """Whether some x_t lies along another image so much more than along its own that noise alone does not do that."""
    size_R1 = np.sqrt(np.mean(x_t_RD**2, axis=1, keepdims=True))
    along_RB = x_t_RD @ (x_BD / np.linalg.norm(x_BD, axis=1, keepdims=True)).T / np.maximum(size_R1, 1e-300)
    lead_R = along_RB.max(axis=1) - along_RB[np.arange(len(row_R)), row_R]
    return bool((lead_R > np.sqrt(2) * stats.norm.isf(FALSE_FAIL / (CALLS * along_RB.size))).any())


def unit_of(array: Array) -> float:
    """Half the machine epsilon of floating arrays; whole numbers are exact."""
    xp = array_namespace(array)
    return float(xp.finfo(array.dtype).eps) / 2 if xp.isdtype(array.dtype, "real floating") else 0.0


def values_of(array: Array) -> Values:
    """A float64 copy on the host."""
    half = unit_of(array) > unit_of(np.zeros(1, dtype=np.float32))
    return np.array(to_host(array_namespace(array).astype(array, array_namespace(array).float32) if half else array), dtype=np.float64)


@dataclass(frozen=True)
class Run:
    """One call of the step."""

    loss: float
    seen: list[Seen]

    @property
    def error(self) -> float:
        """The largest e of the call."""
        return float(np.max([seen.error for seen in self.seen]))

    @property
    def judged(self) -> bool:
        """Whether a movement that exceeds the rounding is still small beside the noise."""
        return MARGIN * self.error <= LARGEST_MOVE


def run_step(step: Callable[..., Any], batch: Batch, claim: Claim, moved: float) -> Run:
    """Call the step once, with answers off by `moved`; `ContractError` where it breaks a rule that needs no verdict."""
    oracle = Oracle(batch, claim, moved)
    loss = step(batch.x, batch.cond, oracle)
    loss = loss.detach() if hasattr(loss, "detach") else loss
    if np.ndim(loss) != 0 or not hasattr(loss, "__float__"):
        raise ContractError(f"step must return the loss, one number, got {type(loss).__name__} of shape {np.shape(loss)}")
    if not oracle.seen:
        raise ContractError("the predictor was never called: the step must call it in the place of the network")
    tags = np.arange(len(batch.values)) + 1
    for name, array, values in (("x", batch.x, batch.values), ("cond", batch.cond, tags)):
        if (values_of(array).reshape(values.shape) != values).any():
            raise ContractError(f"the step changes {name} in place: whoever uses the batch afterwards gets something else")
    shown = np.unique(np.concatenate([seen.rows for seen in oracle.seen]))
    if len(shown) < len(tags):
        raise ContractError(f"the predictor saw {len(shown)} of {len(tags)} images: the step drops some, or gives some another's condition")
    return Run(float(loss), oracle.seen)
