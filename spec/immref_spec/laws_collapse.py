"""The collapsed form of KNN: `collapse(x, g, a, s)`, a deterministic function, at D ≥ 64."""

import numpy as np
from hypothesis import given

from immref_spec import bands, compare, oracles
from immref_spec.strategies import WIDE, Case, Values, cases, examples
from immref_spec.subjects import Subject


def collapse(subject: Subject, x_BD: Values, g_BD: Values, a_BK: Values, s_BK: Values) -> tuple[Values, ...]:
    """The primitive on the subject's arrays, g a copy that it may write to; its results on the host."""
    given_ = (subject.asarray(v) for v in (x_BD, g_BD.copy(), a_BK, s_BK))
    return tuple(subject.asnumpy(v) for v in subject.backend.collapse(*given_))


def wide_dtypes(subject: Subject) -> list[str]:
    """The dtypes a primitive meets: half precision is widened before."""
    return [dtype for dtype in subject.dtypes if dtype != "float16"]


@examples(40)
@given(case=cases(WIDE, kinds=("normal", "duplicates", "large"), least_k=2))
def test_it_rebuilds_the_winner(subject: Subject, case: Case) -> None:
    """From brute force's scalars and a g that lies elsewhere but points across x as the winner does, the result is the winner."""
    for dtype in wide_dtypes(subject):
        x_BD = case.images(dtype).reshape(case.shape[0], -1)
        noise_BKD = case.candidates("float64").reshape(case.shape[0], case.k, case.dimension)
        for b, (x_D, noise_KD) in enumerate(zip(x_BD.astype(np.float64), noise_BKD, strict=True)):
            seen = [oracles.split(x_D, n_D) for n_D in noise_KD]
            a_K, s_K = np.asarray([[along, squared] for along, squared, _ in seen]).T
            length, squared_K = bands.norms(x_D), (a_K - bands.norms(x_D)) ** 2 + s_K
            winner, runner_up = np.argsort(squared_K)[:2]
            error_K = bands.collapsed_squared(length, np.sqrt(a_K**2 + s_K), case.dimension, dtype)
            if squared_K[runner_up] - squared_K[winner] <= error_K[winner] + error_K[runner_up]:
                continue  # rounding may choose either
            far = 3 * (bands.norms(noise_KD[winner]) + length)  # so that candidate 0 loses
            g_D = -1.7 * x_D / length + far * seen[winner][2]
            scalars = (v[None].astype(subject.scalar_dtype) for v in (a_K, s_K))
            n_1D, index_1, _, _ = collapse(subject, x_BD[b : b + 1], g_D[None].astype(dtype), *scalars)
            what = f"row {b} of {case} in {dtype}"
            compare.same(int(index_1[0]), int(winner) + 1, f"index of the winner, {what}")
            stretch, s0 = np.sqrt(s_K[winner]) / far, far**2
            band = bands.collapsed_noise(stretch, bands.norms(g_D), s0, a_K[winner], case.dimension, dtype)
            compare.within(bands.norms(n_1D[0] - noise_KD[winner]), np.zeros(()), band, f"noise minus winner, {what}")


@examples(40)
@given(case=cases(WIDE, least_k=1))
def test_it_agrees_with_the_formula(subject: Subject, case: Case) -> None:
    """Index, noise and distances against the formula in float64, images of zeros included."""
    for dtype in wide_dtypes(subject):
        x_BD, g_BD = case.images(dtype).reshape(case.shape[0], -1), case.noises(dtype).reshape(case.shape[0], -1)
        a_BK, s_BK = case.scalars(subject.scalar_dtype)
        n_BD, index_B, before_B, after_B = collapse(subject, x_BD, g_BD, a_BK, s_BK)
        compare.holds(((index_B >= 0) & (index_B < case.k)).all(), f"index must be in [0, {case.k}) for {case}, got {index_B}")
        for b, (x_D, g_D) in enumerate(zip(x_BD.astype(np.float64), g_BD.astype(np.float64), strict=True)):
            a_J, s_J = oracles.scalars(x_D, g_D, a_BK[b].astype(np.float64), s_BK[b].astype(np.float64))
            length, chosen = bands.norms(x_D), index_B[b]
            squared_J = (a_J - length) ** 2 + s_J
            error_J = bands.collapsed_squared(length, np.sqrt(a_J**2 + s_J), case.dimension, dtype)
            why, what = "8 (D + 8) u (|n_j| + |x|)², the inner products' rounding", f"row {b} of {case} in {dtype}"
            least = bands.Band(error_J[chosen] + error_J[np.argmin(squared_J)], why)
            compare.at_most(squared_J[chosen], squared_J.min(), least, f"squared distance of the chosen candidate, {what}")
            root_J = bands.root(squared_J, error_J)
            compare.within(before_B[b], np.sqrt(squared_J[0]), bands.Band(root_J[0], why), f"before, {what}")
            compare.within(after_B[b], np.sqrt(squared_J[chosen]), bands.Band(root_J[chosen], why), f"after, {what}")
            stretch = np.sqrt(s_J[chosen] / s_J[0])
            band = bands.collapsed_noise(stretch, bands.norms(g_D), s_J[0], a_J[chosen], case.dimension, dtype)
            difference = bands.norms(n_BD[b] - oracles.rebuilt(x_D, g_D, float(a_J[chosen]), float(s_J[chosen])))
            compare.within(difference, np.zeros(()), band, f"noise minus formula, {what}")


@examples(15)
@given(case=cases(WIDE))
def test_candidate_zero_is_kept(subject: Subject, case: Case) -> None:
    """Where candidate 0 wins the result is g bit for bit, at index 0, and nothing came nearer."""
    for dtype in wide_dtypes(subject):
        x_BD, g_BD = case.images(dtype).reshape(case.shape[0], -1), case.noises(dtype).reshape(case.shape[0], -1)
        a_BK, s_BK = case.scalars(subject.scalar_dtype)
        n_BD, index_B, before_B, after_B = collapse(subject, x_BD, g_BD, a_BK, s_BK + 1e4)
        compare.same(index_B.tolist(), [0] * case.shape[0], f"index for {case} where candidate 0 is nearest")
        compare.same_bits(n_BD, g_BD, f"noise for {case} in {dtype} where candidate 0 is nearest")
        band = bands.Band(4 * float(np.finfo(after_B.dtype).eps) * before_B, "4 eps of the scalars")
        compare.within(after_B, before_B, band, f"after, against before, for {case} where candidate 0 is nearest")


@examples(15)
@given(case=cases(WIDE, least_k=2))
def test_ties_go_to_the_first(subject: Subject, case: Case) -> None:
    """Among candidates with the same two scalars the first wins."""
    for dtype in wide_dtypes(subject):
        x_BD, g_BD = case.images(dtype).reshape(case.shape[0], -1), case.noises(dtype).reshape(case.shape[0], -1)
        a_BK, s_BK = case.scalars(subject.scalar_dtype)
        once = collapse(subject, x_BD, g_BD, a_BK, s_BK)
        twice = collapse(subject, x_BD, g_BD, np.tile(a_BK, 2), np.tile(s_BK, 2))
        compare.same_bits(twice[1], once[1], f"index for {case} with every candidate given twice")


@examples(15)
@given(case=cases(WIDE, least_k=2))
def test_more_candidates_are_never_farther(subject: Subject, case: Case) -> None:
    """Adding a candidate cannot increase the distance: the same scalars, the same arithmetic, an exact minimum."""
    for dtype in wide_dtypes(subject):
        x_BD, g_BD = case.images(dtype).reshape(case.shape[0], -1), case.noises(dtype).reshape(case.shape[0], -1)
        a_BK, s_BK = case.scalars(subject.scalar_dtype)
        after = [collapse(subject, x_BD, g_BD, a_BK[:, :k], s_BK[:, :k])[3] for k in range(case.k)]
        for k in range(1, case.k):
            band = bands.Band(4 * float(np.finfo(after[k].dtype).eps) * after[k - 1], "4 eps of the scalars")
            compare.at_most(after[k], after[k - 1], band, f"distance with {k} further candidates, {case}")
