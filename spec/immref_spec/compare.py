"""Comparisons that raise and say: the largest difference, the band allowed, where it comes from, how to replay.

Statistical verdicts share one budget: a correct backend fails one whole run of the suite with
probability at most FALSE_FAIL, split evenly (Bonferroni) over at most VERDICTS verdicts.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from scipy import stats

from immref_spec.bands import Band, Values

FALSE_FAIL = 1e-6
VERDICTS = 180
LEVEL = FALSE_FAIL / VERDICTS


class BrokenLawError(AssertionError):
    """A backend does not do what the specification says."""


def replay() -> str:
    """The line that runs the present law again: the nearest caller that is a law says which, and for whom."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module, name, subject = frame.f_globals.get("__name__", ""), frame.f_code.co_name, frame.f_locals.get("subject")
        if module.startswith("immref_spec.laws_") and name.startswith("test_") and subject is not None:
            return f"; replay: pytest --pyargs {module} -k {name} --immref-backend {subject.name}"
        frame = frame.f_back
    return ""


def holds(condition: Any, sentence: str) -> None:
    """Raise `sentence` unless the condition is true."""
    if not bool(condition):
        raise BrokenLawError(sentence + replay())


def same(actual: Any, expected: Any, what: str) -> None:
    """Raise unless two plain values are equal."""
    holds(actual == expected, f"{what}: got {actual!r}, expected {expected!r}")


def same_bits(actual: Values, expected: Values, what: str) -> None:
    """Raise unless two arrays agree in dtype, shape and every bit."""
    same(str(actual.dtype), str(expected.dtype), f"dtype of {what}")
    same(actual.shape, expected.shape, f"shape of {what}")
    if actual.tobytes() != expected.tobytes():
        index = np.unravel_index(np.argmax((actual != expected).ravel()), actual.shape)
        where = tuple(int(i) for i in index)
        raise BrokenLawError(f"{what} must agree bit for bit; at {where} got {actual[index]!r}, expected {expected[index]!r}{replay()}")


def within(actual: Values, expected: Values, band: Band, what: str) -> None:
    """Raise unless |actual - expected| is inside the band everywhere; NaN is outside."""
    same(np.shape(actual), np.shape(expected), f"shape of {what}")
    _inside(np.abs(np.asarray(actual, dtype=np.float64) - expected), band, f"{what} differs by", actual, expected)


def at_most(actual: Values, bound: Values, band: Band, what: str) -> None:
    """Raise unless actual ≤ bound + band everywhere; NaN is outside."""
    same(np.shape(actual), np.shape(bound), f"shape of {what}")
    _inside(np.asarray(actual, dtype=np.float64) - bound, band, f"{what} is too large by", actual, bound)


def _inside(excess: Values, band: Band, verb: str, actual: Values, expected: Values) -> None:
    if np.size(excess) == 0 or (excess <= band.width).all():
        return
    width = np.broadcast_to(band.width, np.shape(excess))
    ratio = np.where(np.isfinite(excess), excess, np.inf) / np.maximum(width, 1e-300)
    index = np.unravel_index(np.argmax(ratio), np.shape(excess))
    raise BrokenLawError(
        f"{verb} {np.asarray(excess)[index]:.6g} at {tuple(int(i) for i in index)}, allowed {width[index]:.6g}; "
        f"got {np.asarray(actual)[index]:.9g} for {np.asarray(expected)[index]:.9g}; band: {band.why}{replay()}"
    )


def raises(call: Callable[[], Any], error: type[Exception], words: tuple[str, ...], what: str) -> None:
    """Raise unless `call` raises `error` with a sentence that contains all the words."""
    try:
        call()
    except error as caught:
        missing = [word for word in words if word not in str(caught)]
        holds(not missing, f"{what} raised {caught!r}, whose sentence lacks {missing}")
        return
    except Exception as caught:
        raise BrokenLawError(f"{what} raised {caught!r}, expected {error.__name__}{replay()}") from caught
    raise BrokenLawError(f"{what} raised nothing, expected {error.__name__} naming {', '.join(words)}{replay()}")


def likely(p: float, what: str, evidence: str) -> None:
    """Raise where the p-value of a verdict falls below its share of the budget."""
    holds(p >= LEVEL, f"{what}: {evidence}, p = {p:.3g}, allowed {LEVEL:.3g} (false-fail {FALSE_FAIL:g} over {VERDICTS} verdicts)")


def uniform(values: Values, what: str) -> None:
    """Verdict: the values are draws of U(0, 1) (Kolmogorov and Smirnov, exact)."""
    found = stats.kstest(np.asarray(values, dtype=np.float64).ravel(), "uniform")
    likely(float(found.pvalue), what, f"Kolmogorov distance {found.statistic:.4g} to U(0, 1) of {np.size(values)} values")


def same_law(first: Values, second: Values, what: str) -> None:
    """Verdict: two samples follow one law (two-sample Kolmogorov and Smirnov)."""
    found = stats.ks_2samp(first, second, method="asymp")
    likely(float(found.pvalue), what, f"Kolmogorov distance {found.statistic:.4g} between {np.size(first)} and {np.size(second)} values")


def independent(normal_N: Values, other_N: Values, what: str) -> None:
    """Verdict: N(0, 1) draws are uncorrelated with `other`; exactly normal given `other`, whatever its law."""
    first_N, second_N = np.asarray(normal_N, dtype=np.float64).ravel(), np.asarray(other_N, dtype=np.float64).ravel()
    length = float(np.sqrt(second_N @ second_N))
    holds(0 < length < np.inf, f"{what}: the numbers compared must be finite and not all zero")
    z = float(first_N @ second_N) / length
    likely(float(2 * stats.norm.sf(abs(z))), what, f"correlation {z / np.sqrt(first_N.size):.4g} of {first_N.size} values")


def chi_square(statistic: float, df: int, what: str) -> None:
    """Verdict, two-sided: the statistic is a draw of chi2(df)."""
    p = 2 * min(float(stats.chi2.sf(statistic, df)), float(stats.chi2.cdf(statistic, df)))
    likely(p, what, f"chi2 statistic {statistic:.6g} with {df} degrees of freedom")
