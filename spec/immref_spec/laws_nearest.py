"""Algorithm 1, line 2, among given candidates: the primitive `nearest_candidate` and `knn(candidates=)`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import immref
from immref.records import SCORES
from immref_spec import bands, compare, oracles
from immref_spec.strategies import Case, cases, examples
from immref_spec.subjects import Subject


def answer(subject: Subject, case: Case, dtype: str, k: int | None = None, score: str = "l2") -> tuple[np.ndarray, ...]:
    """The primitive's index, before and after among the first k candidates, on the host."""
    noise_BKD = case.candidates(dtype).reshape(case.shape[0], case.k, case.dimension)[:, :k].astype(bands.arithmetic(dtype))
    x_BD = case.images(dtype).reshape(case.shape[0], -1).astype(bands.arithmetic(dtype))
    return tuple(subject.asnumpy(v) for v in subject.backend.nearest_candidate(subject.asarray(x_BD), subject.asarray(noise_BKD), score))


@examples(40)
@given(case=cases())
def test_the_largest_dot_product_wins(subject: Subject, case: Case) -> None:
    """Score 'dot': no candidate has a larger <n, x>, and of equal ones the first wins; `before` and `after` are still distances."""
    for dtype in subject.dtypes:
        x_BD, noise_BKD = (
            case.rows(case.images(dtype)),
            case.candidates(dtype).reshape(case.shape[0], case.k, case.dimension).astype(np.float64),
        )
        index_B, before_B, after_B = answer(subject, case, dtype, score="dot")
        compare.holds(((index_B >= 0) & (index_B < case.k)).all(), f"index must be in [0, {case.k}) for {case}, got {index_B}")
        rows_B, score_BK = np.arange(case.shape[0]), np.einsum("bkd,bd->bk", noise_BKD, x_BD)
        error_BK = bands.inner(x_BD[:, None], noise_BKD, dtype)
        band = bands.Band(error_BK[rows_B, index_B] + error_BK.max(axis=1), "(D + 8) u |n| |x|, of both products")
        compare.at_most(score_BK.max(axis=1), score_BK[rows_B, index_B], band, f"largest <n, x> over the chosen, {case} in {dtype}")
        if case.kind == "lattice":
            compare.same(index_B.tolist(), score_BK.argmax(axis=1).tolist(), f"index of the first largest product for {case}")
        for called, reported_B, chosen_B in (("before", before_B, 0 * index_B), ("after", after_B, index_B)):
            exact_B = bands.norms(noise_BKD[rows_B, chosen_B] - x_BD)
            compare.within(reported_B, exact_B, bands.distance(exact_B, case.dimension, dtype), f"{called}, {case} in {dtype}")


@examples(40)
@given(case=cases())
def test_the_winner_is_nearest(subject: Subject, case: Case) -> None:
    """No candidate lies nearer than the chosen one; `before` and `after` are the distances of candidate 0 and of the chosen."""
    for dtype in subject.dtypes:
        noise_BKD = case.candidates(dtype).reshape(case.shape[0], case.k, case.dimension)
        exact_BK = oracles.distances(case.rows(case.images(dtype)), noise_BKD.astype(np.float64))
        index_B, before_B, after_B = answer(subject, case, dtype)
        compare.holds(((index_B >= 0) & (index_B < case.k)).all(), f"index must be in [0, {case.k}) for {case}, got {index_B}")
        chosen_B = exact_BK[np.arange(case.shape[0]), index_B]
        nearest_B = exact_BK.min(axis=1)
        single = bands.distance(chosen_B, case.dimension, dtype)
        compare.at_most(chosen_B, nearest_B, bands.Band(2 * single.width, f"2 × {single.why}"), f"distance of the chosen candidate, {case}")
        compare.within(before_B, exact_BK[:, 0], bands.distance(exact_BK[:, 0], case.dimension, dtype), f"before, {case} in {dtype}")
        compare.within(after_B, chosen_B, single, f"after, {case} in {dtype}")


@examples(40)
@given(case=cases())
def test_knn_returns_the_winner(subject: Subject, case: Case) -> None:
    """`knn(candidates=)` is the chosen candidate bit for bit."""
    for dtype in subject.dtypes:
        candidates = case.candidates(dtype)
        index_B = answer(subject, case, dtype)[0]
        noise = immref.knn(subject.asarray(case.images(dtype)), candidates=subject.asarray(candidates), backend=subject.backend)
        compare.same_bits(subject.asnumpy(noise), candidates[np.arange(case.shape[0]), index_B], f"noise chosen for {case}")


@examples(40)
@given(case=cases(kinds=("lattice",), least_k=2))
def test_ties_go_to_the_first(subject: Subject, case: Case) -> None:
    """Among equal distances the first wins; on a lattice distances are exact, so equal means equal."""
    for dtype in subject.dtypes:
        noise_BKD = case.candidates(dtype).reshape(case.shape[0], case.k, case.dimension)
        noise_BKD[:, -1] = noise_BKD[:, 0]
        expected_B = oracles.first_nearest(case.rows(case.images(dtype)), noise_BKD.astype(np.float64))
        x_BD, wide = case.images(dtype).reshape(case.shape[0], -1), bands.arithmetic(dtype)
        index_B = subject.backend.nearest_candidate(subject.asarray(x_BD.astype(wide)), subject.asarray(noise_BKD.astype(wide)), "l2")[0]
        compare.same(subject.asnumpy(index_B).tolist(), expected_B.tolist(), f"index of the first nearest candidate for {case}")


@examples(20)
@given(case=cases(least_k=2))
def test_more_candidates_are_never_farther(subject: Subject, case: Case) -> None:
    """Adding a candidate cannot increase the distance."""
    for dtype in subject.dtypes:
        after_KB = [answer(subject, case, dtype, k)[2] for k in range(1, case.k + 1)]
        for k in range(1, case.k):
            band = bands.distance(after_KB[k - 1], case.dimension, dtype)
            compare.at_most(after_KB[k], after_KB[k - 1], bands.Band(2 * band.width, f"2 × {band.why}"), f"distance at k = {k + 1}, {case}")


@examples(20)
@given(case=cases(least_k=2), score=st.sampled_from(SCORES))
def test_a_nan_candidate_is_not_passed_over(subject: Subject, case: Case, score: str) -> None:
    """A row with a NaN candidate answers with the distance NaN, wherever the candidate stands."""
    wide = "float32"
    noise_BKD = case.candidates(wide).reshape(case.shape[0], case.k, case.dimension)
    row, place = case.seed % case.shape[0], case.seed % case.k
    noise_BKD[row, place, -1] = np.nan
    x_BD = subject.asarray(case.images(wide).reshape(case.shape[0], -1))
    after_B = subject.asnumpy(subject.backend.nearest_candidate(x_BD, subject.asarray(noise_BKD), score)[2])
    compare.same(np.isnan(after_B).nonzero()[0].tolist(), [row], f"rows at distance NaN, NaN in candidate {place} of {case}, {score}")
