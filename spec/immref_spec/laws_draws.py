"""Where random numbers come from: seeds, `generator`, `normal`, `radial`. Statistical verdicts at fixed seeds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import immref
from immref import KNN, LinearAssignment, Pairing, Seed
from immref_spec import bands, compare, oracles
from immref_spec.strategies import Values
from immref_spec.subjects import Subject

BASE = Seed(3, step=5, rank=7, micro=11)
METHODS = (Pairing(), KNN(3), LinearAssignment())


def zeros(subject: Subject, *shape: int, dtype: str = "float32") -> Any:
    """Images of zeros: only their kind matters here."""
    return subject.asarray(np.zeros(shape, dtype=dtype))


def standard(subject: Subject, rng: Any, count: int) -> Values:
    """`count` numbers of the backend's noise, on the host."""
    return subject.asnumpy(immref.vanilla(zeros(subject, 2, count // 2), rng=rng, backend=subject.backend)).ravel()


@pytest.mark.parametrize("dimension", [6, 66])
def test_a_seed_repeats_its_noise(subject: Subject, dimension: int) -> None:
    """One Seed gives one noise, whatever was drawn in between; an int n is Seed(n)."""
    for dtype in subject.dtypes:
        x = subject.asarray(np.random.default_rng(0).standard_normal((3, dimension)).astype(dtype))
        for method in METHODS:
            for first, again in ((BASE, BASE), (4, Seed(4)), (np.int64(4), 4)):
                expected = immref.pair(x, method, rng=first, backend=subject.backend)
                immref.pair(x, method, backend=subject.backend)  # moves the library's default generator
                repeated = immref.pair(x, method, rng=again, backend=subject.backend)
                for field in ("noise", "index", "before", "after"):
                    once, twice = (subject.asnumpy(getattr(paired, field)) for paired in (expected, repeated))
                    compare.same_bits(twice, once, f"{field} of {method} at {again!r}, drawn again")


@pytest.mark.parametrize("changed", ["seed", "step", "rank", "micro"])
def test_another_seed_gives_other_noise(subject: Subject, changed: str) -> None:
    """Seeds that differ in one field, by one, give unrelated noise; up to the largest."""
    for low in (0, 2**63):
        first, second = (standard(subject, replace(BASE, **{changed: low + more}), 4096) for more in (0, 1))
        compare.holds(np.mean(first == second) < 0.01, f"noise at {changed} = {low} and {low + 1} must differ")
        compare.independent(first, second, f"noise at {changed} = {low} and {low + 1}")


def test_a_generator_moves_on(subject: Subject) -> None:
    """Drawing twice from one generator gives unrelated noise; so does drawing twice without one; radial continues normal's stream."""
    like = zeros(subject, 1, 1)
    generator = subject.backend.generator(BASE, like)
    first, second = (subject.asnumpy(subject.backend.normal(generator, (4096,), like)) for _ in range(2))
    along, across = (subject.asnumpy(v) for v in subject.backend.radial(generator, 63, (4096,), like))
    across = stats.norm.ppf(stats.chi2.cdf(across, 63))
    pairs = {"normal, twice": (first, second), "normal and a": (second, along), "normal and s": (second, across)}
    pairs["no generator, twice"] = (standard(subject, None, 4096), standard(subject, None, 4096))
    for what, (one, other) in pairs.items():
        compare.holds(np.mean(one == other) < 0.01, f"{what}: the numbers must differ")
        compare.independent(one, other, what)


def test_generators_of_numpy_are_welcome(subject: Subject) -> None:
    """A NumPy generator seeds any backend: equal states give equal noise, and it moves on."""
    rng, same = np.random.default_rng(8), np.random.default_rng(8)
    first, second = (standard(subject, rng, 512) for _ in range(2))
    compare.same_bits(standard(subject, same, 512), first, "noise of a NumPy generator in the same state")
    compare.holds(not np.array_equal(first, second), "a NumPy generator must move on")


def test_the_reference_draws_the_same_on_every_library(subject: Subject) -> None:
    """With backend='reference' a Seed names the same numbers on the subject's arrays as on NumPy's: Philox, bit for bit."""
    for dtype in subject.dtypes:
        for words in ((0, 0, 0, 0), (3, 5, 7, 11), (2**64 - 1, 2**63 + 1, 1, 2**64 - 1)):
            drawn = immref.vanilla(zeros(subject, 2, 3, 5, dtype=dtype), rng=Seed(*words), backend="reference")
            expected = oracles.philox_normal(words, (2, 15), dtype).reshape(2, 3, 5)
            compare.same_bits(subject.asnumpy(drawn), expected, f"the reference's noise at Seed{words} in {dtype}")


def test_normal_is_standard_normal(subject: Subject) -> None:
    """Mean 0, variance 1 (exact tests that see 1 %), the law (Kolmogorov and Smirnov), rows and columns unrelated."""
    for dtype in [dtype for dtype in subject.dtypes if dtype != "float16"]:
        like, rows, columns = zeros(subject, 1, 1, dtype=dtype), 512, 1024
        drawn = subject.backend.normal(subject.backend.generator(BASE, like), (rows, columns), like)
        n_BD = subject.asnumpy(drawn).astype(np.float64)
        count = n_BD.size
        compare.chi_square(float(np.sum(n_BD**2)), count, f"variance of normal in {dtype}")
        compare.uniform(stats.norm.cdf([np.sum(n_BD) / np.sqrt(count)]), f"mean of normal in {dtype}")
        compare.uniform(stats.norm.cdf(n_BD[:, :128]), f"law of normal in {dtype}")
        for apart in 2 ** np.arange(9):  # where a block's threads, or a word's halves, may lie
            compare.independent(n_BD[:-apart], n_BD[apart:], f"rows of normal, {apart} apart, in {dtype}")
            compare.independent(n_BD[:, :-apart], n_BD[:, apart:], f"columns of normal, {apart} apart, in {dtype}")


@pytest.mark.parametrize("df", [63, 3071])
def test_radial_follows_its_laws(subject: Subject, df: int) -> None:
    """a ~ N(0, 1) and s ~ chi2(df), unrelated to each other, across rows and across candidates."""
    like, shape = zeros(subject, 1, 1), (32768, 4)
    drawn = subject.backend.radial(subject.backend.generator(BASE, like), df, shape, like)
    a_BK, s_BK = (subject.asnumpy(v).astype(np.float64) for v in drawn)
    level_BK = stats.chi2.cdf(s_BK, df)
    z_BK = stats.norm.ppf(level_BK)
    compare.uniform(stats.norm.cdf(a_BK), "law of a")
    compare.uniform(level_BK, f"law of s against chi2({df})")
    compare.chi_square(float(s_BK.sum()), df * s_BK.size, f"sum of s against chi2({df})")
    compare.independent(a_BK, z_BK, "a and s")
    compare.independent(z_BK, a_BK**2 - 1, "a² and s")
    compare.independent(a_BK, z_BK**2 - 1, "a and the spread of s")
    for name, v_BK in (("a", a_BK), ("s", z_BK)):
        compare.independent(v_BK[: shape[0] // 2], v_BK[shape[0] // 2 :], f"{name} across the halves of the batch")
        compare.independent(v_BK[::2], v_BK[1::2], f"{name} of neighbouring images")
        compare.independent(v_BK[:, ::2], v_BK[:, 1::2], f"{name} of neighbouring candidates")


@pytest.mark.parametrize("more", [1, 7, 200])
@pytest.mark.parametrize("dimension", [64, 333, 3072])
def test_the_fused_draw_is_its_parts(subject: Subject, dimension: int, more: int) -> None:
    """Where a backend offers `draw_and_collapse`, it gives what `collapse` makes of the draws of `normal` and `radial`."""
    fused = getattr(subject.backend, "draw_and_collapse", None)
    if fused is None:
        return
    rng = np.random.default_rng(dimension)
    for dtype in [dtype for dtype in subject.dtypes if dtype != "float16"]:
        x_BD = rng.standard_normal((6, dimension)).astype(dtype)
        x_BD[1] = 0
        whole, parts = (subject.backend.generator(BASE, subject.asarray(x_BD)) for _ in range(2))
        x = subject.asarray(x_BD)
        n_BD, index_B, *distances = (subject.asnumpy(v) for v in fused(whole, x, more))
        g = subject.backend.normal(parts, (6, dimension), x)
        scalars = subject.backend.radial(parts, dimension - 1, (6, more), x)
        m_BD, same_B, *expected = (subject.asnumpy(v) for v in subject.backend.collapse(x, g, *scalars))
        what = f"with {more} further candidates at D = {dimension} in {dtype}, in one piece"
        compare.same(index_B.tolist(), same_B.tolist(), f"index {what}")
        rounding = bands.Band(4 * np.finfo(dtype).eps * (1 + np.abs(m_BD)), "4 eps: the same arithmetic")
        compare.within(n_BD, m_BD, rounding, f"noise {what}")
        for name, v_B, w_B in zip(("before", "after"), distances, expected, strict=True):
            compare.within(v_B, w_B, bands.Band(4 * np.finfo(dtype).eps * w_B, "4 eps: the same arithmetic"), f"{name} {what}")
        apart = subject.asnumpy(subject.backend.normal(whole, (4096,), x)), subject.asnumpy(subject.backend.normal(parts, (4096,), x))
        compare.same_bits(*apart, f"what both generators draw next, {what}")
