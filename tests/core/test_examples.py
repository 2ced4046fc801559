"""Examples small enough to be worked by hand, on Algorithm 1 and Figure 4."""

import numpy as np
import pytest

import immref


def test_algorithm_1_picks_the_nearest_of_the_candidates():
    x = np.asarray([[0.0, 0.0], [3.0, 4.0]])
    candidates = np.asarray([[[1.0, 0.0], [0.5, 0.5], [-2.0, 0.0]], [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]])
    # distances: 1, √½, 2 → the second; 5, 4, 3 → the third
    assert immref.knn(x, candidates=candidates).tolist() == [[0.5, 0.5], [0.0, 4.0]]


def test_algorithm_1_line_3_mixes_image_and_noise():
    from immref.diffusion import corrupt

    x, noise = np.asarray([[1.0, 2.0], [1.0, 2.0]]), np.asarray([[10.0, 20.0], [10.0, 20.0]])
    assert corrupt(x, noise, np.asarray([1.0, 0.5]), np.asarray([0.0, 0.25])).tolist() == [[1.0, 2.0], [3.0, 6.0]]


def test_a_tie_goes_to_the_first_candidate():
    x = np.zeros((1, 2))
    candidates = np.asarray([[[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]])
    assert immref.knn(x, candidates=candidates).tolist() == [[0.0, 1.0]]


def test_figure_4b_assignment_exchanges_noises_between_images():
    x = np.asarray([[-1.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
    noise = np.asarray([[2.0, 0.0], [0.0, 4.0], [-2.0, 0.0]])
    assert immref.linear_assignment(x, noise).tolist() == [[-2.0, 0.0], [2.0, 0.0], [0.0, 4.0]]


def test_the_two_costs_can_disagree():
    # A triangle with legs of 5 and a base of 8: keeping costs 0 + 8 < 5 + 5, but 0 + 64 > 25 + 25.
    x = np.asarray([[0.0, 0.0], [4.0, 3.0]])
    noise = np.asarray([[0.0, 0.0], [-4.0, 3.0]])
    assert immref.linear_assignment(x, noise, cost="l2").tolist() == [[0.0, 0.0], [-4.0, 3.0]]
    assert immref.linear_assignment(x, noise, cost="sqeuclidean").tolist() == [[-4.0, 3.0], [0.0, 0.0]]


def test_figure_4d_scaling_moves_images_apart_and_leaves_the_noise():
    x = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    paired = immref.pair(x, immref.ImageScaling(2.0), rng=0)
    assert paired.x.tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert np.array_equal(paired.noise, immref.vanilla(x, rng=0))


def test_pair_reports_the_mean_distances_before_and_after():
    x = np.full((5, 100), 0.5)
    paired = immref.pair(x, immref.KNN(k=16), rng=0)
    before, after = (np.linalg.norm(x - noise, axis=1).mean() for noise in (immref.vanilla(x, rng=0), paired.noise))
    assert float(paired.before) == pytest.approx(before)
    assert float(paired.after) == pytest.approx(after)
    assert after < before


def test_pairing_after_scaling_sees_the_scaled_images():
    x = np.random.default_rng(0).standard_normal((8, 80))
    paired = immref.pair(x, immref.LinearAssignment(scale=3.0), rng=1)
    assert np.array_equal(paired.noise, immref.linear_assignment(3.0 * x, rng=1))


@pytest.mark.parametrize(
    ("pairing", "text"),
    [
        (immref.Vanilla(), "vanilla"),
        (immref.KNN(k=8), "KNN k=8"),
        (immref.KNN(k=8, scale=2), "KNN k=8, image ×2"),
        (immref.LinearAssignment(), "linear assignment"),
        (immref.LinearAssignment("sqeuclidean"), "linear assignment (sqeuclidean)"),
        (immref.ImageScaling(1.5), "image ×1.5"),
    ],
)
def test_a_pairing_names_itself(pairing, text):
    assert str(pairing) == text


def test_half_precision_is_computed_in_float32():
    x = np.random.default_rng(0).standard_normal((16, 3000)).astype(np.float16)
    paired = immref.pair(x, immref.KNN(k=8), rng=0)
    wide = immref.pair(x.astype(np.float32), immref.KNN(k=8), rng=0)
    assert paired.noise.dtype == np.float16
    assert np.array_equal(paired.index, wide.index)
    assert np.array_equal(paired.noise, wide.noise.astype(np.float16))
