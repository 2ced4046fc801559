"""Linear assignment: `assign_batch` and `linear_assignment`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import immref
from immref.assignment import COSTS
from immref_spec import bands, compare, oracles
from immref_spec.strategies import POOLS, Case, Values, cases, examples
from immref_spec.subjects import Subject

POOLED = cases(POOLS)
COST = st.sampled_from(COSTS)


def assign(subject: Subject, x_BD: Values, noise_BD: Values, cost: str) -> tuple[Values, Values, Values]:
    """The primitive's index, before and after, on the host; half precision widened as the public function does."""
    x, noise = (subject.asarray(v.astype(bands.arithmetic(str(v.dtype)))) for v in (x_BD, noise_BD))
    index_B, before_B, after_B = subject.backend.assign_batch(x, noise, cost)
    return subject.asnumpy(index_B), subject.asnumpy(before_B), subject.asnumpy(after_B)


@examples(40)
@given(case=POOLED, cost=COST)
def test_it_is_a_permutation(subject: Subject, case: Case, cost: str) -> None:
    """Each noise goes to exactly one image, so the noises as a set stay what they were."""
    for dtype in subject.dtypes:
        index_B = assign(subject, case.images(dtype), case.noises(dtype), cost)[0]
        compare.same(sorted(index_B.tolist()), list(range(case.shape[0])), f"index, sorted, of {cost} for {case} in {dtype}")


@examples(40)
@given(case=POOLED, cost=COST)
def test_its_cost_is_least(subject: Subject, case: Case, cost: str) -> None:
    """No permutation is cheaper than rounding explains: all are tried up to six rows, SciPy's optimum is taken above."""
    for dtype in subject.dtypes:
        x_BD, noise_BD = case.rows(case.images(dtype)), case.rows(case.noises(dtype))
        index_B = assign(subject, case.images(dtype), case.noises(dtype), cost)[0]
        cost_BB, error_BB = oracles.costs(x_BD, noise_BD, cost), bands.assignment(x_BD, noise_BD, cost, dtype)
        rows_B, best_B = np.arange(case.shape[0]), oracles.best_permutation(cost_BB)
        width = error_BB[rows_B, index_B].sum() + error_BB[rows_B, best_B].sum()
        band = bands.Band(width, f"the entries' rounding, 2 (D + B + 8) u (|x| + |n|)² in the square, u of {bands.arithmetic(dtype)}")
        compare.at_most(cost_BB[rows_B, index_B].sum(), cost_BB[rows_B, best_B].sum(), band, f"total {cost} cost for {case} in {dtype}")


@examples(40)
@given(case=POOLED, cost=COST)
def test_its_reports_are_consistent(subject: Subject, case: Case, cost: str) -> None:
    """The noise is the rows at `index`, bit for bit; `before` and `after` are the distances to the noises in order and as chosen."""
    for dtype in subject.dtypes:
        x, noise = case.images(dtype), case.noises(dtype)
        index_B, before_B, after_B = assign(subject, x, noise, cost)
        permuted = immref.linear_assignment(subject.asarray(x), subject.asarray(noise), cost=cost, backend=subject.backend)  # type: ignore[arg-type]
        compare.same_bits(subject.asnumpy(permuted), noise[index_B], f"noise for {case} in {dtype}")
        for called, reported_B, used in (("before", before_B, noise), ("after", after_B, noise[index_B])):
            exact_B = oracles.distances(case.rows(x), case.rows(used)[:, None])[:, 0]
            compare.within(reported_B, exact_B, bands.distance(exact_B, case.dimension, dtype), f"{called} for {case} in {dtype}")


@examples(20)
@given(case=cases(((1, 1), (1, 3), (1, 2, 40))), cost=COST)
def test_one_image_keeps_its_noise(subject: Subject, case: Case, cost: str) -> None:
    """B = 1 is the identity."""
    for dtype in subject.dtypes:
        noise = case.noises(dtype)
        result = immref.linear_assignment(subject.asarray(case.images(dtype)), subject.asarray(noise), cost=cost, backend=subject.backend)  # type: ignore[arg-type]
        compare.same_bits(subject.asnumpy(result), noise, f"noise of one image, {case} in {dtype}")


@examples(4)
@given(case=cases(((200, 48), (130, 3, 8, 8))), cost=COST)
def test_it_is_never_worse_than_no_pairing(subject: Subject, case: Case, cost: str) -> None:
    """The total cost of a larger batch does not exceed that of the noises in order; with drawn noises it falls."""
    x, noise = case.images("float32"), case.noises("float32")
    index_B = assign(subject, x.reshape(case.shape[0], -1), noise.reshape(case.shape[0], -1), cost)[0]
    x_BD, noise_BD = case.rows(x), case.rows(noise)
    power = 1 if cost == "l2" else 2
    total, identity = (np.sum(bands.norms(x_BD - n_BD) ** power) for n_BD in (noise_BD[index_B], noise_BD))
    error_BB = bands.assignment(x_BD, noise_BD, cost, "float32")
    band = bands.Band(error_BB[np.arange(len(index_B)), index_B].sum() + np.trace(error_BB), "the entries' rounding")
    compare.at_most(total, identity, band, f"total {cost} cost for {case}")
    if case.kind == "normal":
        compare.holds(total < identity, f"{case}: pairing must bring images and noises nearer, {total:.6g} against {identity:.6g}")
