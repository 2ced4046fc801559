"""Whatever is passed, the outcome is one that is written down, and no argument is written to: the tables of `inputs.py`, judged."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
from array_api_compat import device
from hypothesis import given
from hypothesis import strategies as st

import immref
from immref import KNN, Paired
from immref._checks import on_cpu
from immref.records import COSTS
from immref_spec import bands, compare, oracles
from immref_spec.inputs import ABSENT, ARRAYS, COUNT, FUNCTIONS, SCALE, SEEDS, SETTINGS, Given, Refusal, cases, good
from immref_spec.laws_pair import report_band
from immref_spec.strategies import Values, examples
from immref_spec.subjects import Subject


@pytest.mark.parametrize("odd", ARRAYS)
@examples(2)
@given(seed=SEEDS)
def test_an_odd_array_has_a_written_outcome(subject: Subject, odd: str, seed: int) -> None:
    """Every function, with the array in every place that takes it: the right value or the written sentence; all arguments as they were."""
    row = ARRAYS[odd]
    at = row.home(subject)
    for case, dtype in cases(seed, row.drawn(subject)):
        values = good(at, case, dtype)
        for place in row.places:
            array = row.make(at, values[place])
            if array is ABSENT:
                continue
            arguments, plain = replace(Given.of(at, values), **{place: array}), Given.of(at, values)
            if (row.outcome is None or row.outcome.or_right) and place != "group":
                plain = replace(plain, **{place: at.asarray(np.array(at.asnumpy(array)))})
            for called, function in FUNCTIONS.items():
                if place in function.takes:
                    meet(at, called, arguments, plain, row.outcome, place, f"{called} with {odd} for {place}, {case} in {dtype}")


@pytest.mark.parametrize("setting", SETTINGS)
@examples(2)
@given(seed=SEEDS)
def test_an_odd_setting_has_a_written_outcome(subject: Subject, setting: str, seed: int) -> None:
    """Every call that takes the argument: the result of the plain value that is meant, bit for bit, or the written sentence."""
    row, argument = SETTINGS[setting], SETTINGS[setting].argument or setting
    for case, dtype in cases(seed, subject.dtypes):
        arguments = Given.of(subject, good(subject, case, dtype))
        before = fingerprints(subject, arguments)
        for place, call in enumerate(row.calls):
            for value, refusal in row.refused:
                what = f"{argument} = {value!s:.40} in call {place} of the row {setting!r}, {case} in {dtype}"
                refused(partial(call, arguments, **{argument: value}), refusal, what, name=argument)
            for value, meant in row.welcome:
                what = f"{argument} = {value!s:.40} in call {place} of the row {setting!r}, {case} in {dtype}"
                odd, plain = (values_of(subject, answer(partial(call, arguments, **{argument: v}), what)) for v in (value, meant))
                compare.same_bits(odd, plain, what)
        compare.same(fingerprints(subject, arguments), before, f"fingerprints of the arguments after odd values of {setting}")


@pytest.mark.parametrize("score", ["l2", "dot"])
def test_many_candidates_are_welcome(subject: Subject, score: Literal["l2", "dot"]) -> None:
    """k = 100 000 at D = 64 chooses among all; a k that no memory holds is refused by name."""
    x, on = subject.asarray(np.ones((2, 64), dtype=np.float32)), {"rng": 1, "backend": subject.backend}
    paired = answer(partial(immref.pair, x, KNN(100_000, score), **on), f"k = 100 000 by {score}")
    index_B, (noise_BD, first_BD) = subject.asnumpy(paired.index), (subject.asnumpy(n) for n in (paired.noise, immref.vanilla(x, **on)))
    compare.holds(
        ((index_B >= 0) & (index_B < 100_000)).all() and index_B.max() > COUNT, f"index must be anywhere in [0, 100 000), got {index_B}"
    )
    compare.holds(np.isfinite(noise_BD).all(), f"the nearest of 100 000 noises by {score} must be finite")
    compare.holds(
        (noise_BD.sum(axis=1) > first_BD.sum(axis=1)).all(), "of 100 000 noises the one chosen must lie farther along x than the first"
    )
    for k in (2**63, 10**30):
        refused(partial(immref.knn, x, k, score=score, **on), Refusal(ValueError, ("k must be", str(k))), f"k = {k} by {score}")


@examples(8)
@given(seed=SEEDS, cost=st.sampled_from(COSTS), solver=st.sampled_from(["auto", "scipy"]), size=st.sampled_from([0.2, 0.4, 0.6, 0.9, 1.5]))
def test_large_numbers_are_paired_right_or_refused(subject: Subject, seed: int, cost: Any, solver: Any, size: float) -> None:
    """Squares overflow where distances need not: the least cost, or the sentence; never the noise as it was."""
    for case, dtype in cases(seed, ("float32",)):
        values = good(subject, case, dtype)
        root = np.float32(size * np.sqrt(np.finfo(dtype).max / case.dimension))
        values["x"] = root * (1 + values["x"] / 8)
        values["noise"] = np.roll(values["x"], 1, axis=0)
        plain, what = Given.of(subject, values), f"{cost} assignment by {solver} of numbers near {root:.3g}, {case}"
        call = partial(immref.linear_assignment, plain.x, plain.noise, cost=cost, solver=solver, backend=subject.backend)
        try:
            with warnings.catch_warnings(action="error"):
                result = call()
        except Exception as error:
            ours = isinstance(error, ValueError) and "finite but" in str(error)
            compare.holds(ours, f"{what} must be refused as an overflow, if at all, got {error!r}")
        else:
            cheapest(subject, plain, subject.asnumpy(result), what, values["noise"], cost)


def meet(at: Subject, called: str, arguments: Given, plain: Given, outcome: Refusal | None, place: str, what: str) -> None:
    """Call and judge: the outcome of the table, and the arguments' bits."""
    function, before = FUNCTIONS[called], fingerprints(at, arguments)
    call = partial(function, arguments)
    looks = function.looks == "always" or (function.looks == "on the CPU" and on_cpu(plain.x))
    blind = outcome is not None and outcome.looks and not looks
    if outcome is None or blind or (outcome.or_right and succeeds(call)):
        result = answer(call, what)
        if not blind:
            like(at, called, result, plain, what)
            RIGHT[called](at, plain, values_of(at, result), what)
    else:
        last = len(at.asnumpy(plain.x)) - 1
        refused(call, outcome, what, name=place, row=last)
    compare.same(fingerprints(at, arguments), before, f"fingerprints of the arguments after {what}")


def succeeds(call: Callable[[], Any]) -> bool:
    """Whether a call that may be refused is not."""
    try:
        call()
    except ValueError:
        return False
    return True


def answer(call: Callable[[], Any], what: str) -> Any:
    """The result of a call that must succeed, without a warning."""
    try:
        with warnings.catch_warnings(action="error"):
            return call()
    except Exception as error:
        raise compare.BrokenLawError(f"{what} must be welcome, raised {error!r}{compare.replay()}") from error


def refused(call: Callable[[], Any], refusal: Refusal, what: str, **blanks: Any) -> None:
    """A call that must fail, in these words and without a warning."""
    with warnings.catch_warnings(action="error"):
        compare.raises(call, refusal.error, tuple(word.format(**blanks) for word in refusal.words), what)


def fingerprints(at: Subject, arguments: Given) -> list[Any]:
    """What must not change: the bits of arrays, the looks of anything else, and whether gradients flow."""
    return [fingerprint(at, argument) for argument in (arguments.x, arguments.candidates, arguments.noise, arguments.group)]


def fingerprint(at: Subject, argument: Any) -> Any:
    """Bits where the subject can read the argument, else what Python prints."""
    with suppress(Exception):  # lists, names, arrays without data
        values = at.asnumpy(argument)
        return values.tobytes(), str(values.dtype), values.shape, getattr(argument, "requires_grad", None)
    return repr(argument)


def values_of(at: Subject, result: Any) -> Values:
    """The noise, scaled images or record on the host."""
    if isinstance(result, immref.Pairing):
        return np.asarray(str(result))
    return at.asnumpy(result.noise if isinstance(result, Paired) else result)


def like(at: Subject, called: str, result: Any, plain: Given, what: str) -> None:
    """Type, dtype, shape and device of the noise are those of a plain x; only `scale` lets gradients through."""
    if isinstance(result, Paired):
        compare.same_bits(at.asnumpy(result.x), at.asnumpy(immref.scale(plain.x, 1.0 if "labels" in called else SCALE)), f"x of {what}")
        result = result.noise
    for quality in (type, device, lambda array: str(array.dtype), lambda array: tuple(array.shape)):
        compare.same(quality(result), quality(plain.x), f"kind of the result of {what}")
    compare.holds(called == "scale" or not getattr(result, "requires_grad", False), f"result of {what} must not carry gradients")


def as_plain(at: Subject, plain: Given, noise: Values, what: str, like_: str) -> None:
    """The bits that the same numbers give in a plain array."""
    compare.same_bits(noise, at.asnumpy(FUNCTIONS[like_](plain)), what)


def near(at: Subject, plain: Given, noise: Values, what: str, like_: str, factor: float = 1.0) -> None:
    """On average as near as the noise that the same numbers get in a plain array."""
    x_BD, n_BD = rows(at.asnumpy(plain.x)) * factor, rows(noise)
    expected_BD, g_BD = (rows(values_of(at, FUNCTIONS[name](plain))) for name in (like_, "vanilla"))
    band = report_band(x_BD, g_BD, expected_BD, KNN(COUNT), str(noise.dtype))
    rounding = float(np.finfo(noise.dtype).eps * np.mean(bands.norms(expected_BD)))
    compare.within(
        bands.norms(n_BD - x_BD).mean(),
        bands.norms(expected_BD - x_BD).mean(),
        bands.Band(2 * (band.width + rounding), f"of two noises: {band.why}, and the noise's own rounding"),
        f"mean distance of {what}",
    )


def along(at: Subject, plain: Given, noise: Values, what: str) -> None:
    """<n, x> is that of the same numbers in a plain array."""
    x_BD, n_BD = rows(at.asnumpy(plain.x)), rows(noise)
    expected_BD, g_BD = (rows(values_of(at, FUNCTIONS[name](plain))) for name in ("knn by dot", "vanilla"))
    size_B = bands.norms(x_BD) * (bands.norms(expected_BD) + bands.norms(g_BD))
    width_B = 2 * (4 * bands.gamma(x_BD.shape[1], str(noise.dtype)) + float(np.finfo(noise.dtype).eps)) * size_B
    band = bands.Band(width_B, "of two noises: 3 (D + 8) u |g| |x| in (a_J - a_0) |x|, (D + 8) u |n| |x| in n, and its own rounding")
    compare.within(np.sum(n_BD * x_BD, axis=1), np.sum(expected_BD * x_BD, axis=1), band, f"<n, x> of {what}")


def nearest(at: Subject, plain: Given, noise: Values, what: str, score: str) -> None:
    """One of the candidates, bit for bit, and none is nearer, or has a larger <n, x>, than rounding explains."""
    x_BD, candidates = rows(at.asnumpy(plain.x)), at.asnumpy(plain.candidates)
    noise_BKD, dtype = candidates.reshape(*candidates.shape[:2], -1).astype(np.float64), str(noise.dtype)
    same_BK = np.all(noise_BKD == rows(noise)[:, None], axis=2)
    compare.holds(same_BK.any(axis=1).all(), f"{what} must be one of the candidates in every row")
    if score == "l2":
        value_BK = oracles.distances(x_BD, noise_BKD)
        error_BK = np.asarray(bands.distance(value_BK, x_BD.shape[1], dtype).width)
    else:
        value_BK, error_BK = -np.einsum("bkd,bd->bk", noise_BKD, x_BD), bands.inner(x_BD[:, None], noise_BKD, dtype)
    chosen_B = np.min(np.where(same_BK, value_BK, np.inf), axis=1)
    compare.at_most(chosen_B, value_BK.min(axis=1), bands.Band(2 * error_BK.max(axis=1), f"(D + 8) u of two candidates by {score}"), what)


def cheapest(
    at: Subject, plain: Given, noise: Values, what: str, pool: Values | None = None, cost: str = "l2", group: bool = False
) -> None:
    """The pool's noises in another order, in each label the cheapest; without a pool vanilla's are meant."""
    if pool is None:
        pool = at.asnumpy(FUNCTIONS["vanilla"](plain))
    labels_B = at.asnumpy(plain.group) if group else np.zeros(len(noise))
    for label in np.unique(labels_B):
        own_B = labels_B == label
        x_BD, n_BD, pool_BD = (rows(v[own_B]) for v in (at.asnumpy(plain.x), noise, pool))
        compare.same(sorted(n_BD.tolist()), sorted(pool_BD.tolist()), f"noises of {what}, label {label}, sorted")
        cost_BB = oracles.costs(x_BD, pool_BD, cost)
        least = sum(cost_BB[i, j] for i, j in enumerate(oracles.best_permutation(cost_BB)))
        total = np.trace(oracles.costs(x_BD, n_BD, cost))
        with np.errstate(over="ignore"):  # an error over the distance 0: the root's other bound holds
            width = 2 * bands.assignment(x_BD, pool_BD, cost, str(noise.dtype)).max(axis=1).sum()
        compare.at_most(
            total, np.asarray(least), bands.Band(width, "the entries' rounding, for two permutations"), f"{cost} cost of {what}"
        )


def rows(values: Values) -> Values:
    """`values` as float64 rows (B, D)."""
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


RIGHT: dict[str, Callable[[Subject, Given, Values, str], None]] = {
    "vanilla": partial(as_plain, like_="vanilla"),
    "knn, k = 1": partial(as_plain, like_="vanilla"),
    "knn": partial(near, like_="knn"),
    "knn by dot": along,
    "knn of candidates": partial(nearest, score="l2"),
    "knn of candidates by dot": partial(nearest, score="dot"),
    "linear_assignment": partial(cheapest, group=True),
    "linear_assignment of noise": lambda at, plain, noise, what: cheapest(at, plain, noise, what, at.asnumpy(plain.noise)),
    "linear_assignment of noise by squares": lambda at, plain, noise, what: cheapest(
        at, plain, noise, what, at.asnumpy(plain.noise), "sqeuclidean", group=True
    ),
    "pair": partial(near, like_="pair", factor=SCALE),
    "pair within labels": partial(cheapest, group=True),
    "scale": partial(as_plain, like_="scale"),
}
