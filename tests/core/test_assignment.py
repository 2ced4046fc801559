"""The ways to solve an assignment: which library runs, that warm prices change no optimum, and that bids are capped."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from immref import assignment, auction
from immref.assignment import SMALL, by_scipy, from_prices, gains, solve
from immref_spec.strategies import Case

SIZE = SMALL + 60


def gain_of(kind, size=SIZE, cost="l2"):
    case = Case((size, 48), 1, kind, seed=3)
    return gains(case.images("float32"), case.noises("float32"), cost)


def total(gain, order):
    return gain[np.arange(len(gain)), order].astype(np.float64).sum()


@pytest.fixture
def without_lap(monkeypatch):
    monkeypatch.setattr(assignment, "lap_module", lambda: None)


@pytest.fixture
def with_lap(monkeypatch):
    """A stand-in with lapx's signature; where lapx itself is installed the laws run on it."""
    called = []

    def lapjvh(cost, return_cost):
        called.append(cost)
        assert not return_cost
        return linear_sum_assignment(cost)

    monkeypatch.setattr(assignment, "lap_module", lambda: SimpleNamespace(lapjvh=lapjvh))
    return called


@pytest.mark.parametrize("kind", ["normal", "duplicates", "equal"])
@pytest.mark.parametrize("size", [1, 2, 60, SIZE])
def test_auto_is_scipy_s_optimum(kind, size, without_lap):
    gain = gain_of(kind, size)
    order, gap = solve(gain, "auto")
    assert sorted(order) == list(range(size))
    rounding = size * np.finfo(np.float64).eps * np.abs(gain).sum()
    assert total(gain, order) >= total(gain, solve(gain, "scipy")[0]) - rounding
    assert gap == 0


def test_prices_change_no_optimum(without_lap):
    gain, rng = gain_of("normal"), np.random.default_rng(0)
    best = total(gain, by_scipy(-gain.astype(np.float64)))
    for prices in (np.zeros(SIZE), 10 * rng.standard_normal(SIZE)):
        assert total(gain, from_prices(gain, prices)) == pytest.approx(best, rel=1e-12)


def test_lap_is_used_where_it_imports_and_never_for_the_oracle(with_lap):
    solve(gain_of("normal"), "scipy")
    assert not with_lap
    solve(gain_of("normal"), "auto")
    cost = with_lap[0]
    assert cost.min() == 0
    assert (cost.min(axis=1) == 0).all()  # reduced: the solver starts near the end


def test_an_old_lap_without_the_solver_is_passed_over(monkeypatch):
    monkeypatch.setattr(assignment, "import_module", lambda name: SimpleNamespace())
    assignment.lap_module.cache_clear()
    assert assignment.lap_module() is None
    assignment.lap_module.cache_clear()


def test_near_exact_leaves_little_to_the_exact_solver(monkeypatch):
    solved = []
    monkeypatch.setattr(assignment, "by_scipy", lambda cost: solved.append(len(cost)) or by_scipy(cost))
    _, gap = solve(gain_of("normal"), "auction")
    assert len(solved) == 1
    assert solved[0] <= auction.LEFT * SIZE
    assert 0 < gap <= 0.02


def test_bids_are_capped_where_all_rows_want_the_same():
    """Equal rows sell one column a round: without the cap there would be as many rounds as rows, and rows² bids."""
    taken, owner, price = auction.run(gain_of("equal"))
    assert np.count_nonzero(taken >= 0) <= 2 * auction.MOST_BIDS
    assert np.array_equal(np.flatnonzero(owner >= 0), np.sort(taken[taken >= 0]))
    assert np.isfinite(price).all()


@pytest.mark.parametrize("cost", ["l2", "sqeuclidean"])
def test_gains_are_the_costs_up_to_constants(cost):
    """Row and column means removed, what is left is minus the cost."""
    case = Case((9, 40), 1, "normal", seed=1)
    x, noise = case.images("float64"), case.noises("float64")
    distance = np.linalg.norm(x[:, None] - noise[None], axis=2)
    expected = -(distance if cost == "l2" else distance**2 / 2)
    difference = gains(x, noise, cost) - expected
    centred = difference - difference.mean(axis=0) - difference.mean(axis=1, keepdims=True) + difference.mean()
    assert np.abs(centred).max() <= 100 * np.finfo(np.float64).eps * np.abs(expected).max()


def test_float32_gains_keep_the_digits_in_which_distances_differ():
    """At D = 3072 distances are near 60 and differ by tenths: the plain root would round them to 4e-6."""
    case = Case((64, 3072), 1, "normal", seed=2)
    x, noise = case.images("float32"), case.noises("float32")
    exact = gains(x.astype(np.float64), noise.astype(np.float64), "l2")
    found = gains(x, noise, "l2") - exact
    residual = found - found.mean(axis=0) - found.mean(axis=1, keepdims=True) + found.mean()
    assert np.sqrt(np.mean(residual**2)) < 0.25 * np.finfo(np.float32).eps * np.linalg.norm(x - noise, axis=1).mean()
