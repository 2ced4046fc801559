"""Somebody else's backend, written as one plain object: the laws accept it, and reject it once it is broken."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import immref
from immref import Seed
from immref_spec import laws_assignment, laws_collapse, laws_contract, laws_draws, laws_knn, laws_nearest, laws_pair, subjects
from immref_spec.compare import BrokenLawError


class Naive:
    """Every primitive as a reader of the specification would first write it, on NumPy arrays, sharing no code with the reference."""

    name = "naive"
    library = np

    def accepts(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def asarray(self, array, device):
        return array

    def asnumpy(self, array):
        return np.asarray(array)

    def unavailable(self, device):
        return None

    def generator(self, rng, like):
        if isinstance(rng, np.random.Generator):
            return rng
        if isinstance(rng, bool) or not (rng is None or isinstance(rng, Seed) or hasattr(rng, "__index__")):
            raise TypeError(f"rng must be None, an int, a Seed or a NumPy generator, got {rng!r}")
        seed = rng if isinstance(rng, Seed) or rng is None else Seed(int(rng))
        return np.random.default_rng(None if seed is None else [seed.seed, seed.step, seed.rank, seed.micro])

    def normal(self, rng, shape, like):
        return rng.standard_normal(shape).astype(like.dtype)

    def radial(self, rng, df, shape, like):
        return rng.standard_normal(shape), 2 * rng.standard_gamma(df / 2, shape)

    def nearest_candidate(self, x_BD, noise_BKD, score):
        distance_BK = np.sqrt(np.sum(np.square(noise_BKD.astype(np.float64) - x_BD[:, None]), axis=2))
        distance_BK[np.isnan(distance_BK).any(axis=1)] = np.nan
        score_BK = distance_BK if score == "l2" else -np.sum(noise_BKD.astype(np.float64) * x_BD[:, None], axis=2)
        index_B = np.argmin(score_BK, axis=1)
        return index_B, distance_BK[:, 0], distance_BK[np.arange(len(index_B)), index_B]

    def collapse(self, x_BD, g_BD, a_BK, s_BK):
        noise_BD, index_B = g_BD.copy(), np.zeros(len(x_BD), dtype=np.int64)
        before_B, after_B = np.zeros(len(x_BD)), np.zeros(len(x_BD))
        for b, (x_D, g_D) in enumerate(zip(x_BD.astype(np.float64), g_BD.astype(np.float64), strict=True)):
            length = np.linalg.norm(x_D)
            u_D = x_D / length if length else x_D
            a_K = np.concatenate([[g_D @ u_D], a_BK[b] if length else 0 * a_BK[b]])
            across_D = g_D - a_K[0] * u_D
            s_K = np.concatenate([[across_D @ across_D], s_BK[b] if length else a_BK[b] ** 2 + s_BK[b]])
            distance_K = np.sqrt((a_K - length) ** 2 + s_K)
            index_B[b] = winner = np.argmin(distance_K)
            before_B[b], after_B[b] = distance_K[0], distance_K[winner]
            if winner or not np.isfinite(distance_K[0]):
                noise_BD[b] = a_K[winner] * u_D + np.sqrt(s_K[winner] / s_K[0]) * across_D
        return noise_BD, index_B, before_B, after_B

    def assign_batch(self, x_BD, noise_BD, cost, solver):
        difference_BBD = noise_BD[None].astype(np.float64) - x_BD[:, None]
        cost_BB = np.sum(difference_BBD**2, axis=2) ** (0.5 if cost == "l2" else 1.0)
        finite = np.isfinite(cost_BB).all()
        index_B = linear_sum_assignment(cost_BB)[1] if finite else np.arange(len(x_BD))
        distance_BB = np.sqrt(np.sum(difference_BBD**2, axis=2))
        return index_B, np.diag(distance_BB).copy(), distance_BB[np.arange(len(index_B)), index_B], 0.0


SELECTION = [
    laws_contract.test_noise_is_like_the_image,
    laws_contract.test_inputs_are_left_alone,
    laws_contract.test_primitives_return_what_the_protocol_says,
    laws_contract.test_one_candidate_is_vanilla,
    laws_draws.test_generators_of_numpy_are_welcome,
    laws_draws.test_a_generator_moves_on,
    laws_draws.test_normal_is_standard_normal,
    laws_nearest.test_the_winner_is_nearest,
    laws_nearest.test_the_largest_dot_product_wins,
    laws_nearest.test_ties_go_to_the_first,
    laws_nearest.test_a_nan_candidate_is_not_passed_over,
    laws_collapse.test_it_rebuilds_the_winner,
    laws_collapse.test_it_agrees_with_the_formula,
    laws_collapse.test_candidate_zero_is_kept,
    laws_assignment.test_its_cost_is_least,
    laws_assignment.test_its_reports_are_consistent,
    laws_assignment.test_large_batches_are_exact_too,
    laws_assignment.test_a_certified_gap_is_true_and_small,
    laws_assignment.test_labels_keep_their_noises,
    laws_knn.test_the_direction_across_is_uniform,
    laws_pair.test_before_and_after_are_mean_distances,
]


@pytest.mark.parametrize("law", SELECTION, ids=lambda law: law.__name__)
def test_an_object_that_follows_the_specification_passes(law):
    law(subjects.of(Naive()))


@pytest.mark.parametrize("k", [2, 8])
@pytest.mark.parametrize("dimension", [5, 64])
def test_its_noise_has_the_law_of_knn(dimension, k):
    laws_knn.test_the_distance_law(subjects.of(Naive()), dimension, k)


def first_always(x_BD, noise_BKD, score):
    return np.zeros(len(x_BD), dtype=np.int64), *Naive().nearest_candidate(x_BD, noise_BKD, score)[1:]


@pytest.mark.parametrize(
    ("part", "broken", "law"),
    [
        ("nearest_candidate", first_always, laws_nearest.test_the_winner_is_nearest),
        ("collapse", lambda x, g, a, s: Naive().collapse(x, g, a, s + 1), laws_collapse.test_it_agrees_with_the_formula),
        ("assign_batch", lambda x, n, cost, solver: Naive().assign_batch(x, n, "l2", solver), laws_assignment.test_its_cost_is_least),
        ("normal", lambda rng, shape, like: Naive().normal(rng, shape, like) * 1.01, laws_draws.test_normal_is_standard_normal),
    ],
    ids=["nearest_candidate", "collapse", "assign_batch", "normal"],
)
def test_it_fails_once_one_part_is_broken(part, broken, law):
    backend = Naive()
    setattr(backend, part, broken)
    with pytest.raises(BrokenLawError, match=r"allowed"):
        law(subjects.of(backend))


def test_the_public_functions_take_the_object():
    x = np.ones((4, 70), dtype=np.float16)
    assert immref.knn(x, 4, rng=0, backend=Naive()).dtype == np.float16
    assert immref.pair(x, immref.LinearAssignment(), rng=0, backend=Naive()).noise.shape == (4, 70)
