"""`pair` and `scale`: the record that training loops use, and image scaling."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import immref
from immref import KNN, ImageScaling, LinearAssignment, Pairing, Seed
from immref_spec import bands, compare
from immref_spec.strategies import Case, cases, examples
from immref_spec.subjects import Subject

METHODS = (
    *(Pairing(), ImageScaling(1.5), KNN(1), KNN(4), KNN(3, scale=2.0), KNN(4, "dot")),
    *(LinearAssignment(), LinearAssignment("sqeuclidean"), LinearAssignment(solver="auction"), LinearAssignment(within="label")),
)
PAIRINGS = st.sampled_from(METHODS)
SEED = Seed(1, step=2)


def labels_of(case: Case) -> np.ndarray:
    """A label for each image: two of them, in no order."""
    return np.random.default_rng(case.seed).integers(2, size=case.shape[0], dtype=np.int32)


@examples(30)
@given(case=cases(kinds=("normal", "duplicates", "zero rows")), pairing=PAIRINGS)
def test_pair_is_its_method(subject: Subject, case: Case, pairing: Pairing) -> None:
    """`pair` gives the noise that vanilla, knn or linear_assignment gives for the scaled images, bit for bit."""
    for dtype in subject.dtypes:
        x = subject.asarray(case.images(dtype))
        scaled, on = immref.scale(x, pairing.scale), {"rng": SEED, "backend": subject.backend}
        labels = subject.asarray(labels_of(case))
        if pairing.method == "linear_assignment":
            group = labels if pairing.within == "label" else None
            expected = immref.linear_assignment(scaled, cost=pairing.cost, solver=pairing.solver, group=group, **on)
        elif pairing.method == "knn":
            expected = immref.knn(scaled, pairing.k, score=pairing.score, **on)
        else:
            expected = immref.vanilla(scaled, **on)
        paired = immref.pair(x, pairing, group=labels, **on)
        compare.same_bits(subject.asnumpy(paired.noise), subject.asnumpy(expected), f"noise of {pairing} for {case} in {dtype}")
        compare.same_bits(subject.asnumpy(paired.x), subject.asnumpy(scaled), f"x of {pairing} for {case} in {dtype}")


@examples(30)
@given(case=cases(kinds=("normal", "duplicates", "zero rows")), pairing=PAIRINGS)
def test_before_and_after_are_mean_distances(subject: Subject, case: Case, pairing: Pairing) -> None:
    """`before` is the mean distance to vanilla's noise at the same Seed, `after` that to `noise`; after ≤ before for KNN."""
    for dtype in [dtype for dtype in subject.dtypes if dtype != "float16"]:
        x = subject.asarray(case.images(dtype))
        paired = immref.pair(x, pairing, group=labels_of(case), rng=SEED, backend=subject.backend)
        first = immref.vanilla(x, rng=SEED, backend=subject.backend)
        x_BD, n_BD, g_BD = (case.rows(subject.asnumpy(v)) for v in (paired.x, paired.noise, first))
        for called, reported, used_BD in (("before", paired.before, g_BD), ("after", paired.after, n_BD)):
            exact_B = bands.norms(used_BD - x_BD)
            band = report_band(x_BD, g_BD, used_BD, pairing, dtype)
            compare.within(subject.asnumpy(reported), exact_B.mean(), band, f"{called} of {pairing} for {case} in {dtype}")
        if pairing.method == "knn" and pairing.score == "l2":
            compare.at_most(subject.asnumpy(paired.after), subject.asnumpy(paired.before), bands.Band(0.0, "the same sums"), "after of KNN")


def report_band(x_BD: np.ndarray, g_BD: np.ndarray, used_BD: np.ndarray, pairing: Pairing, dtype: str) -> bands.Band:
    """Of a mean of B distances; a collapsed KNN knows them from scalars, and its noise to the band of `collapse`."""
    count, dimension = x_BD.shape
    exact_B = bands.norms(used_BD - x_BD)
    width = bands.distance(exact_B, dimension, dtype).width + bands.gamma(count, dtype) * exact_B
    why = "(D + 8) u |n - x| and (B + 8) u of the mean"
    if pairing.k > 1 and dimension >= 64:
        length_B, g_B, n_B = bands.norms(x_BD), bands.norms(g_BD), bands.norms(used_BD)
        u_BD = x_BD / np.maximum(length_B, 1e-300)[:, None]
        s0_B, along_B = g_B**2 - np.sum(g_BD * u_BD, axis=1) ** 2, np.sum(used_BD * u_BD, axis=1)
        stretch_B = np.sqrt((n_B**2 - along_B**2) / s0_B)
        width = width + bands.collapsed_noise(stretch_B, g_B, s0_B, along_B, dimension, dtype).width
        width = width + bands.root(exact_B**2, bands.collapsed_squared(length_B, n_B, dimension, dtype))
        why += ", the bands of collapse's noise and scalars"
    return bands.Band(float(np.mean(width)), why)


@examples(20)
@given(case=cases(), pairing=PAIRINGS)
def test_index_says_who_was_chosen(subject: Subject, case: Case, pairing: Pairing) -> None:
    """int64 (B,): vanilla 0 … B-1, KNN in [0, k), assignment the rows of vanilla's noise in their new order."""
    for dtype in subject.dtypes:
        x = subject.asarray(case.images(dtype))
        paired = immref.pair(x, pairing, group=labels_of(case), rng=SEED, backend=subject.backend)
        index_B, count = subject.asnumpy(paired.index), case.shape[0]
        compare.same((str(index_B.dtype), index_B.shape), (subject.index_dtype, (count,)), f"dtype and shape of index of {pairing}")
        if pairing.method == "knn":
            compare.holds(((index_B >= 0) & (index_B < pairing.k)).all(), f"index must be in [0, {pairing.k}), got {index_B}")
            continue
        if pairing.method == "vanilla":
            compare.same(index_B.tolist(), list(range(count)), "index of vanilla")
        first = subject.asnumpy(immref.vanilla(x, rng=SEED, backend=subject.backend))
        compare.same_bits(subject.asnumpy(paired.noise), first[index_B], f"noise of {pairing} for {case} in {dtype}")


@examples(20)
@given(case=cases(), factor=st.sampled_from([0.5, 1.0, 1.3, 2.0, 8.0]))
def test_scale_multiplies(subject: Subject, case: Case, factor: float) -> None:
    """Every number is multiplied, rounded once or twice in its own dtype; a factor of 1 returns x itself."""
    for dtype in subject.dtypes:
        x = subject.asarray(case.images(dtype))
        scaled = immref.scale(x, factor)
        expected = case.images(dtype).astype(np.float64) * factor
        tiny = float(np.finfo(dtype).smallest_subnormal)
        band = bands.Band(np.abs(expected) * float(np.finfo(dtype).eps) * 1.01 + tiny, "the factor and the product, rounded to x's dtype")
        compare.same((str(scaled.dtype), tuple(scaled.shape)), (str(x.dtype), tuple(x.shape)), "dtype and shape of scale")
        compare.within(subject.asnumpy(scaled), expected, band, f"x scaled by {factor} for {case} in {dtype}")
        compare.holds(factor != 1.0 or scaled is x, "a factor of 1 must return x itself")
