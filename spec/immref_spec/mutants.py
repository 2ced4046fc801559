"""Deliberately wrong backends: the reference with one part replaced. Each must be rejected by the law it names.

They work on NumPy arrays. MUTANTS, at the end, is the table: mutant, parts replaced, law. `mutants_around` holds what is wrong
around the primitives.
"""
# ruff: noqa: ARG001  (a mutant keeps the signature of the part that it replaces)

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from immref import Seed, reference
from immref.assignment import gains
from immref.dispatch import Backend

Array = Any
Triple = tuple[Array, Array, Array]
Assigned = tuple[Array, ...]

PARTS = ("name", "library", "accepts", "asarray", "asnumpy", "unavailable", "generator")
PRIMITIVES = ("normal", "radial", "nearest_candidate", "collapse", "assign_batch")


@dataclass(frozen=True)
class Mutant:
    """The parts that a wrong backend replaces, and the law that must reject it."""

    parts: dict[str, Any]
    law: str

    @property
    def story(self) -> str:
        """What is wrong, in one sentence."""
        return str(next(iter(self.parts.values())).__doc__)

    def backend(self) -> Backend:
        """The reference with the parts replaced."""
        backend: Any = SimpleNamespace(**{part: getattr(reference, part) for part in PARTS + PRIMITIVES} | self.parts)
        return backend  # type: ignore[no-any-return]


def unpaired(index_B: Array, x_BD: Array, noise_BKD: Array) -> Triple:
    """An index with the distances that belong to it."""
    after_B = np.linalg.norm(noise_BKD[np.arange(len(index_B)), index_B] - x_BD, axis=1)
    return index_B, np.linalg.norm(noise_BKD[:, 0] - x_BD, axis=1), after_B


def squared(x_BD: Array, noise_BKD: Array) -> Array:
    """Squared distances (B, K)."""
    return np.sum((noise_BKD - x_BD[:, None]) ** 2, axis=2)


def farthest(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Keeps the farthest candidate."""
    return unpaired(np.argmax(squared(x_BD, noise_BKD), axis=1), x_BD, noise_BKD)


def last_candidate_unseen(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Looks at the first k - 1 candidates only."""
    return reference.nearest_candidate(x_BD, noise_BKD[:, : max(1, noise_BKD.shape[1] - 1)], score)


def last_of_ties(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Gives a tie to the last candidate."""
    index_B = noise_BKD.shape[1] - 1 - np.argmin(squared(x_BD, noise_BKD)[:, ::-1], axis=1)
    return unpaired(index_B, x_BD, noise_BKD)


def index_off_by_one(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Reports the neighbour of the nearest candidate."""
    index_B, before_B, after_B = reference.nearest_candidate(x_BD, noise_BKD, score)
    return (index_B + 1) % noise_BKD.shape[1], before_B, after_B


def largest_dot_product(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Keeps the candidate with the largest <n, x>, as if all were equally long."""
    return unpaired(np.argmax(np.vecdot(noise_BKD, x_BD[:, None]), axis=1), x_BD, noise_BKD)


def score_ignored(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Keeps the nearest candidate whatever the score asked for."""
    return reference.nearest_candidate(x_BD, noise_BKD, "l2")


def half_precision_distances(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Compares distances rounded to float16."""
    with np.errstate(over="ignore"):
        index_B = np.argmin(squared(x_BD, noise_BKD).astype(np.float16), axis=1)
    return unpaired(index_B, x_BD, noise_BKD)


def nan_replaced(x_BD: Array, noise_BKD: Array, score: str) -> Triple:
    """Takes NaN for a large number and passes it over."""
    return reference.nearest_candidate(x_BD, np.nan_to_num(noise_BKD, nan=1e3), score)


def half_precision_collapse(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Chooses the winner of the collapsed form by float16 squared distances."""
    with np.errstate(over="ignore"):
        return reference.collapse(x_BD, g_BD, a_BK.astype(np.float16), s_BK.astype(np.float16))


def last_scalars_unseen(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Collapses k - 1 candidates instead of k."""
    return reference.collapse(x_BD, g_BD, a_BK[:, :-1], s_BK[:, :-1])


def direction_forgotten(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Stretches g to the winner's length and forgets to correct the part along x."""
    _, index_B, before_B, after_B = reference.collapse(x_BD, g_BD.copy(), a_BK, s_BK)
    rows_B, lost_B = np.arange(len(index_B)), index_B - 1
    length_B = np.sqrt(np.where(index_B > 0, a_BK[rows_B, lost_B] ** 2 + s_BK[rows_B, lost_B], np.vecdot(g_BD, g_BD)))
    noise_BD = g_BD * (length_B / np.linalg.norm(g_BD, axis=1)).astype(g_BD.dtype)[:, None]
    return noise_BD, index_B, before_B, after_B


def stretch_forgotten(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Moves g along x to the winner and keeps candidate 0's length across it."""
    noise_BD, *rest = reference.collapse(x_BD, g_BD.copy(), a_BK, s_BK)
    length_B = np.linalg.norm(x_BD, axis=1, keepdims=True)
    u_BD = x_BD / np.where(length_B == 0, 1, length_B)
    return g_BD + u_BD * np.vecdot(noise_BD - g_BD, u_BD)[:, None], *rest


def direction_folded(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Takes every number of the part across x as positive, and stretches it to its length again."""
    noise_BD, *rest = reference.collapse(x_BD, g_BD, a_BK, s_BK)
    length_B1 = np.linalg.norm(x_BD, axis=1, keepdims=True)
    u_BD = x_BD / np.where(length_B1 == 0, 1, length_B1)
    along_BD = u_BD * np.vecdot(noise_BD, u_BD)[:, None]
    folded_BD = np.abs(noise_BD - along_BD)
    folded_BD -= u_BD * np.vecdot(folded_BD, u_BD)[:, None]
    stretch_B1 = np.linalg.norm(noise_BD - along_BD, axis=1, keepdims=True) / np.linalg.norm(folded_BD, axis=1, keepdims=True)
    return along_BD + stretch_B1 * folded_BD, *rest


def zero_image_forgotten(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Drops a_j² of the candidates of an image of zeros."""
    return reference.collapse(x_BD, g_BD, np.where(np.any(x_BD, axis=1, keepdims=True), a_BK, 0), s_BK)


def image_in_place(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Normalises x in place."""
    result = reference.collapse(x_BD, g_BD, a_BK, s_BK)
    x_BD /= np.maximum(np.linalg.norm(x_BD, axis=1, keepdims=True), 1)
    return result


def before_after_swapped(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, ...]:
    """Reports the distance of the winner as that of candidate 0, and the other way round."""
    noise_BD, index_B, before_B, after_B = reference.collapse(x_BD, g_BD, a_BK, s_BK)
    return noise_BD, index_B, after_B, before_B


def noise_in_place(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Reorders the caller's noise in place."""
    index_B, *rest = reference.assign_batch(x_BD, noise_BD, cost, solver)
    noise_BD[...] = noise_BD[index_B]
    return index_B, *rest


def repeated_noises(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Gives each image its nearest noise, so noises repeat."""
    index_B = np.argmin(squared(x_BD, np.repeat(noise_BD[None], len(x_BD), axis=0)), axis=1)
    return *unpaired(index_B, x_BD, np.repeat(noise_BD[None], len(x_BD), axis=0)), 0.0


def costliest(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Maximises the cost."""
    many_BBD = np.repeat(noise_BD[None], len(x_BD), axis=0)
    return *unpaired(linear_sum_assignment(squared(x_BD, many_BBD), maximize=True)[1], x_BD, many_BBD), 0.0


def one_cost_for_both(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Minimises plain distances whatever the cost asked for."""
    return reference.assign_batch(x_BD, noise_BD, "l2", solver)


def greedy(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Lets image after image take the nearest noise that is left."""
    many_BBD = np.repeat(noise_BD[None], len(x_BD), axis=0)
    cost_BB, index_B = squared(x_BD, many_BBD), np.zeros(len(x_BD), dtype=np.int64)
    for row in range(len(x_BD)):
        index_B[row] = np.argmin(cost_BB[row])
        cost_BB[:, index_B[row]] = np.inf
    return *unpaired(index_B, x_BD, many_BBD), 0.0


def inverse_permutation(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Says which image each noise goes to, instead of which noise each image takes."""
    index_B, *rest = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return np.argsort(index_B), *rest


def prices_in_the_report(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Reports distances with a column's price still in them."""
    index_B, before_B, after_B, gap = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return index_B, before_B, after_B + gains(x_BD, noise_BD, cost).mean(axis=0)[index_B], gap


def near_exact_called_exact(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Answers 'auto' with the auction alone, and calls it exact."""
    *rest, gap = reference.assign_batch(x_BD, noise_BD, cost, "auction" if solver == "auto" else solver)
    return *rest, gap if solver == "auction" else 0.0


def boastful_certificate(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Stops the auction at the identity and certifies that little is missing."""
    index_B, before_B, after_B, gap = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return (np.arange(len(index_B)), before_B, before_B, 0.01) if solver == "auction" else (index_B, before_B, after_B, gap)


def auction_gives_up(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Leaves the noises where they are for 'auction', truthfully certified."""
    index_B, before_B, after_B, gap = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return (np.arange(len(index_B)), before_B, before_B, 1.0) if solver == "auction" else (index_B, before_B, after_B, gap)


def narrow_index(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> Assigned:
    """Answers an int32 index where int64 exists."""
    index_B, *rest = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return index_B.astype(np.int32), *rest


def entropy_always(rng: Any, like: Array) -> Any:
    """Ignores the seed and draws fresh entropy."""
    return np.random.default_rng()


def one_noise_for_ever(rng: Any, like: Array) -> Any:
    """Ignores the seed and draws the same noise in every step."""
    return Seed(0).generator()


def rank_forgotten(rng: Any, like: Array) -> Any:
    """Gives every process the same noise."""
    return Seed(rng.seed, rng.step, micro=rng.micro).generator() if isinstance(rng, Seed) else reference.generator(rng, like)


def micro_forgotten(rng: Any, like: Array) -> Any:
    """Gives every micro-batch of a step the same noise."""
    return Seed(rng.seed, rng.step, rng.rank).generator() if isinstance(rng, Seed) else reference.generator(rng, like)


def stream_restarts(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Draws from a copy of the generator, so what follows starts at the same place."""
    return reference.normal(copy.deepcopy(rng), shape, like)


def too_wide(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Has variance 1.02."""
    return reference.normal(rng, shape, like) * np.asarray(1.02**0.5, dtype=like.dtype)


def flat(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Draws uniform numbers of variance 1."""
    return rng.uniform(-(3**0.5), 3**0.5, shape).astype(like.dtype)


def rows_apart(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Shifts the noise of every fourth image."""
    noise = reference.normal(rng, shape, like)
    noise[::4] += 0.25
    return noise


def same_for_every_image(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Draws the noise of one image for the whole batch."""
    return np.repeat(reference.normal(rng, (1, *shape[1:]), like), shape[0], axis=0)


def wider_dtype(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Answers float64 for float32 images."""
    return reference.normal(rng, shape, like).astype(np.float64)


def one_degree_too_many(rng: Any, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """Draws s from chi2(D) instead of chi2(D - 1)."""
    return reference.radial(rng, df + 1, shape, like)


def symmetric_chi2(rng: Any, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """Draws s from the normal law with the right mean and variance."""
    return rng.standard_normal(shape), df + (2 * df) ** 0.5 * rng.standard_normal(shape)


def shared_scalars(rng: Any, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """Gives every image of the batch the same candidates."""
    one = reference.radial(rng, df, (1, *shape[1:]), like)
    return np.repeat(one[0], shape[0], axis=0), np.repeat(one[1], shape[0], axis=0)


def linked_scalars(rng: Any, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """Gives a the sign of s - df, so that a and s are related."""
    a, s = reference.radial(rng, df, shape, like)
    return np.abs(a) * np.sign(s - df), s


MUTANTS: dict[str, Mutant] = {
    "farthest": Mutant({"nearest_candidate": farthest}, "laws_nearest.test_the_winner_is_nearest"),
    "last_candidate_unseen": Mutant({"nearest_candidate": last_candidate_unseen}, "laws_nearest.test_the_winner_is_nearest"),
    "index_off_by_one": Mutant({"nearest_candidate": index_off_by_one}, "laws_nearest.test_the_winner_is_nearest"),
    "largest_dot_product": Mutant({"nearest_candidate": largest_dot_product}, "laws_nearest.test_the_winner_is_nearest"),
    "half_precision_distances": Mutant({"nearest_candidate": half_precision_distances}, "laws_nearest.test_the_winner_is_nearest"),
    "last_of_ties": Mutant({"nearest_candidate": last_of_ties}, "laws_nearest.test_ties_go_to_the_first"),
    "score_ignored": Mutant({"nearest_candidate": score_ignored}, "laws_nearest.test_the_largest_dot_product_wins"),
    "nan_replaced": Mutant({"nearest_candidate": nan_replaced}, "laws_nearest.test_a_nan_candidate_is_not_passed_over"),
    "half_precision_collapse": Mutant({"collapse": half_precision_collapse}, "laws_collapse.test_it_agrees_with_the_formula"),
    "last_scalars_unseen": Mutant({"collapse": last_scalars_unseen}, "laws_knn.test_the_distance_law"),
    "direction_forgotten": Mutant({"collapse": direction_forgotten}, "laws_collapse.test_it_rebuilds_the_winner"),
    "stretch_forgotten": Mutant({"collapse": stretch_forgotten}, "laws_collapse.test_it_rebuilds_the_winner"),
    "direction_folded": Mutant({"collapse": direction_folded}, "laws_knn.test_the_direction_across_is_uniform"),
    "zero_image_forgotten": Mutant({"collapse": zero_image_forgotten}, "laws_collapse.test_it_agrees_with_the_formula"),
    "image_in_place": Mutant({"collapse": image_in_place}, "laws_contract.test_inputs_are_left_alone"),
    "before_after_swapped": Mutant({"collapse": before_after_swapped}, "laws_pair.test_before_and_after_are_mean_distances"),
    "noise_in_place": Mutant({"assign_batch": noise_in_place}, "laws_contract.test_inputs_are_left_alone"),
    "repeated_noises": Mutant({"assign_batch": repeated_noises}, "laws_assignment.test_it_is_a_permutation"),
    "costliest": Mutant({"assign_batch": costliest}, "laws_assignment.test_it_is_never_worse_than_no_pairing"),
    "one_cost_for_both": Mutant({"assign_batch": one_cost_for_both}, "laws_assignment.test_its_cost_is_least"),
    "greedy": Mutant({"assign_batch": greedy}, "laws_assignment.test_its_cost_is_least"),
    "inverse_permutation": Mutant({"assign_batch": inverse_permutation}, "laws_assignment.test_its_reports_are_consistent"),
    "prices_in_the_report": Mutant({"assign_batch": prices_in_the_report}, "laws_assignment.test_its_reports_are_consistent"),
    "near_exact_called_exact": Mutant({"assign_batch": near_exact_called_exact}, "laws_assignment.test_large_batches_are_exact_too"),
    "boastful_certificate": Mutant({"assign_batch": boastful_certificate}, "laws_assignment.test_a_certified_gap_is_true_and_small"),
    "auction_gives_up": Mutant({"assign_batch": auction_gives_up}, "laws_assignment.test_a_certified_gap_is_true_and_small"),
    "narrow_index": Mutant({"assign_batch": narrow_index}, "laws_contract.test_primitives_return_what_the_protocol_says"),
    "entropy_always": Mutant({"generator": entropy_always}, "laws_draws.test_a_seed_repeats_its_noise"),
    "one_noise_for_ever": Mutant({"generator": one_noise_for_ever}, "laws_draws.test_another_seed_gives_other_noise"),
    "rank_forgotten": Mutant({"generator": rank_forgotten}, "laws_draws.test_another_seed_gives_other_noise"),
    "micro_forgotten": Mutant({"generator": micro_forgotten}, "laws_draws.test_another_seed_gives_other_noise"),
    "stream_restarts": Mutant({"normal": stream_restarts}, "laws_draws.test_a_generator_moves_on"),
    "too_wide": Mutant({"normal": too_wide}, "laws_draws.test_normal_is_standard_normal"),
    "flat": Mutant({"normal": flat}, "laws_draws.test_normal_is_standard_normal"),
    "rows_apart": Mutant({"normal": rows_apart}, "laws_miscibility.test_vanilla_noise_does_not_tell_the_label"),
    "same_for_every_image": Mutant({"normal": same_for_every_image}, "laws_knn.test_the_distance_law"),
    "wider_dtype": Mutant({"normal": wider_dtype}, "laws_contract.test_primitives_return_what_the_protocol_says"),
    "one_degree_too_many": Mutant({"radial": one_degree_too_many}, "laws_draws.test_radial_follows_its_laws"),
    "symmetric_chi2": Mutant({"radial": symmetric_chi2}, "laws_draws.test_radial_follows_its_laws"),
    "shared_scalars": Mutant({"radial": shared_scalars}, "laws_knn.test_the_distance_law"),
    "linked_scalars": Mutant({"radial": linked_scalars}, "laws_draws.test_radial_follows_its_laws"),
}
