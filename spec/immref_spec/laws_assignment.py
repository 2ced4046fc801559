"""Linear assignment: `assign_batch` and `linear_assignment`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import immref
from immref.assignment import SMALL
from immref.records import COSTS, SOLVERS
from immref_spec import bands, compare, oracles
from immref_spec.strategies import POOLS, Case, Values, cases, examples
from immref_spec.subjects import Subject

POOLED = cases(POOLS)
LARGE = cases(
    ((SMALL + 44, 40), (SMALL + 44, 3, 4, 6), (SMALL + 1, 1)), ("normal", "near duplicates", "duplicates", "equal")
)  # an auction first
COST, SOLVER = st.sampled_from(COSTS), st.sampled_from(SOLVERS)


def assign(subject: Subject, x: Values, noise: Values, cost: str, solver: str = "auto") -> tuple[Values, Values, Values, float]:
    """The primitive's index, before, after and gap, on the host; flat and widened as the public function does."""
    x_BD, noise_BD = (subject.asarray(v.reshape(len(v), -1).astype(bands.arithmetic(str(v.dtype)))) for v in (x, noise))
    index_B, before_B, after_B, gap = subject.backend.assign_batch(x_BD, noise_BD, cost, solver)
    return subject.asnumpy(index_B), subject.asnumpy(before_B), subject.asnumpy(after_B), gap


@examples(40)
@given(case=POOLED, cost=COST, solver=SOLVER)
def test_it_is_a_permutation(subject: Subject, case: Case, cost: str, solver: str) -> None:
    """Each noise goes to exactly one image, so the noises as a set stay what they were."""
    for dtype in subject.dtypes:
        index_B = assign(subject, case.images(dtype), case.noises(dtype), cost, solver)[0]
        compare.same(sorted(index_B.tolist()), list(range(case.shape[0])), f"index, sorted, of {cost} for {case} in {dtype}")


@examples(40)
@given(case=POOLED, cost=COST, solver=st.sampled_from(["auto", "scipy"]))
def test_its_cost_is_least(subject: Subject, case: Case, cost: str, solver: str) -> None:
    """No permutation is cheaper than rounding explains: all are tried up to six rows, SciPy's optimum is taken above."""
    for dtype in subject.dtypes:
        index_B, _, _, gap = assign(subject, case.images(dtype), case.noises(dtype), cost, solver)
        total, least, band = totals(case, dtype, cost, index_B)
        compare.at_most(total, least, band, f"total {cost} cost for {case} in {dtype}")
        compare.same(gap, 0.0, f"gap of {solver} for {case}")


@examples(6)
@given(case=LARGE, cost=COST)
def test_large_batches_are_exact_too(subject: Subject, case: Case, cost: str) -> None:
    """'auto' is exact at every size: warm prices, duplicates and equal images change no optimum."""
    index_B, _, _, gap = assign(subject, case.images("float32"), case.noises("float32"), cost)
    total, least, band = totals(case, "float32", cost, index_B)
    compare.at_most(total, least, band, f"total {cost} cost for {case}")
    compare.same(gap, 0.0, f"gap of auto for {case}")


@examples(6)
@given(case=LARGE, cost=COST)
def test_a_certified_gap_is_true_and_small(subject: Subject, case: Case, cost: str) -> None:
    """'auction': gap = (dual - primal)/(dual - mean) with the optimum ≤ dual; on images that are not all one it is at most 2 %."""
    index_B, _, _, gap = assign(subject, case.images("float32"), case.noises("float32"), cost, "auction")
    compare.same(sorted(index_B.tolist()), list(range(case.shape[0])), f"index of auction, sorted, for {case}")
    compare.holds(isinstance(gap, float) and 0 <= gap <= 1, f"gap must be a float in [0, 1], got {gap!r}")
    total, least, band = totals(case, "float32", cost, index_B)
    mean = oracles.costs(case.rows(case.images("float32")), case.rows(case.noises("float32")), cost).mean() * case.shape[0]
    compare.at_most((1 - gap) * (mean - least), mean - total, band, f"(1 - gap) × the possible gain, over the gain, {cost} for {case}")
    if case.kind != "equal":
        compare.holds(gap <= 0.02, f"gap must be ≤ 0.02 on images that are not all one, got {gap:.4g} for {case}")


def totals(case: Case, dtype: str, cost: str, index_B: Values) -> tuple[Values, Values, bands.Band]:
    """The total cost of a permutation, the least, and how far rounding may move the two apart."""
    x_BD, noise_BD = case.rows(case.images(dtype)), case.rows(case.noises(dtype))
    cost_BB, error_BB = oracles.costs(x_BD, noise_BD, cost), bands.assignment(x_BD, noise_BD, cost, dtype)
    rows_B, best_B = np.arange(case.shape[0]), oracles.best_permutation(cost_BB)
    width = error_BB[rows_B, index_B].sum() + error_BB[rows_B, best_B].sum()
    why = f"the entries' rounding, 2 (D + B + 8) u (|x| + |n|)² in the square, u of {bands.arithmetic(dtype)}"
    return np.asarray(cost_BB[rows_B, index_B].sum()), np.asarray(cost_BB[rows_B, best_B].sum()), bands.Band(width, why)


@examples(30)
@given(case=cases(((2, 3), (6, 5), (40, 3), (33, 64))), cost=COST)
def test_labels_keep_their_noises(subject: Subject, case: Case, cost: str) -> None:
    """With `group` noises move only within a label, and there the total cost is the least."""
    labels_B = np.random.default_rng(case.seed).permutation(np.arange(case.shape[0], dtype=np.int32) % 3) - 1
    for dtype in subject.dtypes:
        x, noise = case.images(dtype), case.noises(dtype)
        images, noises, labels = (subject.asarray(v) for v in (x, noise, labels_B))
        permuted = subject.asnumpy(immref.linear_assignment(images, noises, cost=cost, group=labels, backend=subject.backend))  # type: ignore[arg-type]
        for label in np.unique(labels_B):
            rows = labels_B == label
            what = f"label {label} for {case} in {dtype}"
            compare.same(sorted(map(bytes, permuted[rows])), sorted(map(bytes, noise[rows])), f"the noises, as a set, of {what}")
            x_GD, used_GD, noise_GD = (v[rows].reshape(rows.sum(), -1).astype(np.float64) for v in (x, permuted, noise))
            cost_GG, error_GG = oracles.costs(x_GD, noise_GD, cost), bands.assignment(x_GD, noise_GD, cost, dtype)
            best_G, rows_G = oracles.best_permutation(cost_GG), np.arange(rows.sum())
            total = np.diag(oracles.costs(x_GD, used_GD, cost)).sum()
            width = np.diag(bands.assignment(x_GD, used_GD, cost, dtype)).sum() + error_GG[rows_G, best_G].sum()
            compare.at_most(
                total, cost_GG[rows_G, best_G].sum(), bands.Band(width, "the entries' rounding"), f"total {cost} cost of {what}"
            )


@examples(40)
@given(case=POOLED, cost=COST)
def test_its_reports_are_consistent(subject: Subject, case: Case, cost: str) -> None:
    """The noise is the rows at `index`, bit for bit; `before` and `after` are the distances to the noises in order and as chosen."""
    for dtype in subject.dtypes:
        x, noise = case.images(dtype), case.noises(dtype)
        index_B, before_B, after_B, _ = assign(subject, x, noise, cost)
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
    index_B = assign(subject, x, noise, cost)[0]
    x_BD, noise_BD = case.rows(x), case.rows(noise)
    power = 1 if cost == "l2" else 2
    total, identity = (np.sum(bands.norms(x_BD - n_BD) ** power) for n_BD in (noise_BD[index_B], noise_BD))
    error_BB = bands.assignment(x_BD, noise_BD, cost, "float32")
    band = bands.Band(error_BB[np.arange(len(index_B)), index_B].sum() + np.trace(error_BB), "the entries' rounding")
    compare.at_most(total, identity, band, f"total {cost} cost for {case}")
    if case.kind == "normal":
        compare.holds(total < identity, f"{case}: pairing must bring images and noises nearer, {total:.6g} against {identity:.6g}")
