"""Batch-wise linear assignment (Section 3.3.1): a permutation of the noises that lies nearest to the images.

The B × B gains come from one matrix product on the device; they are solved on the host.

Shape suffixes: B images and as many noises, D numbers per image.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from immref import auction
from immref._checks import Array, widest
from immref.pairing import distances, inner

Values = np.ndarray[Any, Any]
Auction = Callable[[Array], tuple[Array, Array, Array]]  # gains to columns of rows, rows of columns and prices

SMALL = 256  # rows up to which an exact solver alone is faster than an auction before it


def assign_batch(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> tuple[Array, Array, Array, float]:
    """The permutation of the noises with the least total cost; the solve runs on the host.

    Parameters
    ----------
    x_BD, noise_BD : arrays (B, D), float32 or float64
    cost : 'l2' (the paper: plain distances) or 'sqeuclidean' (equal to the largest total <n, x>)
    solver : 'auto' and 'scipy' (exact) or 'auction' (near-exact)

    Returns
    -------
    index_B : int64 array, image i takes noise index[i]
    before_B, after_B : distances before and after
    gap : the certified share of the possible gain that was left; 0 where the solve is exact
    """
    xp = array_namespace(x_BD)
    order_B, gap = solve(to_host(gains(x_BD, noise_BD, cost)), solver)
    index_B = xp.asarray(order_B, dtype=widest(x_BD, "signed integer"), device=device(x_BD))
    return index_B, distances(x_BD, noise_BD), distances(x_BD, xp.take(noise_BD, index_B, axis=0)), gap


def auctioned(x_BD: Array, noise_BD: Array, cost: str, solver: str, run: Auction) -> tuple[Array, Array, Array, float]:
    """The same by an auction that a backend runs on the device; gains that are not finite yield the identity and a gap of NaN."""
    xp = array_namespace(x_BD)
    gain_BB = gains(x_BD, noise_BD, cost)
    index_B, gap = xp.arange(x_BD.shape[0], device=device(x_BD)), np.nan
    if bool(xp.max(xp.abs(gain_BB)) <= xp.finfo(gain_BB.dtype).max / 16):
        index_B, gap = finish(gain_BB, *run(gain_BB), solver)
    return index_B, distances(x_BD, noise_BD), distances(x_BD, xp.take(noise_BD, index_B, axis=0)), gap


def gains(x_BD: Array, noise_BD: Array, cost: str) -> Array:
    """The (B, B) matrix whose largest total is the least total cost, up to constants, which no permutation can feel.

    For 'l2' it is c - |n_j - x_i|, c the root mean square distance, in the form (c² - |n_j - x_i|²) / (c + |n_j - x_i|):
    the numerator is small, so float32 keeps the digits in which distances differ.
    """
    xp = array_namespace(x_BD)
    gain_BB = x_BD @ noise_BD.T
    if cost == "sqeuclidean":
        return gain_BB
    xx_B, nn_B = inner(x_BD, x_BD), inner(noise_BD, noise_BD)
    center = xp.mean(xx_B) + xp.mean(nn_B)
    gain_BB *= 2  # in place, where the library can: these are the largest arrays of a call
    gain_BB -= (xx_B - xp.mean(xx_B))[:, None]
    gain_BB -= (nn_B - xp.mean(nn_B))[None, :]
    sum_BB = xp.sqrt(xp.clip(center - gain_BB, 0))
    sum_BB += xp.sqrt(center) + xp.finfo(x_BD.dtype).smallest_normal
    gain_BB /= sum_BB
    return gain_BB


def solve(gain_BB: Values, solver: str) -> tuple[Values, float]:
    """The permutation with the largest total gain, and its certified gap.

    Gains that are not finite, or too large to be added, yield the identity and a gap of NaN (the caller's checks say why).
    """
    if not max(gain_BB.max(), -gain_BB.min()) <= np.finfo(gain_BB.dtype).max / 16:
        return np.arange(len(gain_BB)), np.nan
    if solver == "scipy":
        return by_scipy(-gain_BB.astype(np.float64)), 0.0
    if len(gain_BB) <= SMALL:
        return from_prices(gain_BB, gain_BB.mean(axis=0, dtype=np.float64)), 0.0
    return finish(gain_BB, *auction.run(gain_BB), solver)


def finish(gain_BB: Array, taken_B: Array, owner_B: Array, price_B: Array, solver: str) -> tuple[Array, float]:
    """What an auction leaves to do: all of it exactly for 'auto' and where its bids ran out, else the rows left over."""
    xp = array_namespace(gain_BB)
    (free_F,), (columns_F,) = xp.nonzero(taken_B < 0), xp.nonzero(owner_B < 0)
    if solver == "auto" or free_F.shape[0] > auction.LEFT * taken_B.shape[0]:
        order_B = from_prices(to_host(gain_BB), to_host(price_B))
        return xp.asarray(order_B, device=device(gain_BB)), 0.0
    block_FF = to_host(xp.take(xp.take(gain_BB, free_F, axis=0), columns_F, axis=1))
    order_B = xp.asarray(taken_B, copy=True)
    order_B[free_F] = xp.take(columns_F, xp.asarray(by_scipy(-block_FF.astype(np.float64)), device=device(gain_BB)), axis=0)
    return order_B, certified_gap(gain_BB, order_B, price_B)


def certified_gap(gain_BB: Array, order_B: Array, price_B: Array) -> float:
    """The share of the gain over the mean permutation that may be missing: (dual - primal) / (dual - mean), by weak duality."""
    xp = array_namespace(gain_BB)
    best_B, taken_B1 = xp.max(gain_BB - price_B, axis=1), xp.take_along_axis(gain_BB, order_B[:, None], axis=1)
    dual, price, primal, mean = (float(np.sum(to_host(v), dtype=np.float64)) for v in (best_B, price_B, taken_B1, xp.mean(gain_BB, axis=1)))
    dual += price
    room = dual - mean
    return min(max((dual - primal) / room, 0.0), 1.0) if room > 0 else 0.0


def from_prices(gain_BB: Values, price_B: Values) -> Values:
    """The exact optimum, by `lap` (pip install 'immref[fast]') where it imports, else by SciPy.

    Column prices, then the least of each row, are subtracted from the costs: that changes no optimum, and a shortest-path
    solver then starts near the end. SciPy's starts at zero duals, so it gets the least of each column subtracted as well.
    """
    cost_BB = price_B.astype(np.float64) - gain_BB
    cost_BB -= cost_BB.min(axis=1, keepdims=True)
    if lap := lap_module():
        return np.asarray(lap.lapjvh(cost_BB, return_cost=False)[1], dtype=np.int64)
    cost_BB -= cost_BB.min(axis=0)
    return by_scipy(cost_BB)


def by_scipy(cost_BB: Values) -> Values:
    """SciPy's exact solution."""
    from scipy.optimize import linear_sum_assignment  # here, because it takes four times as long to import as NumPy

    return np.asarray(linear_sum_assignment(cost_BB)[1], dtype=np.int64)


@cache
def lap_module() -> Any:
    """The module `lap` of lapx, or None where it is not installed or too old to have `lapjvh`."""
    try:
        lap = import_module("lap")
    except ImportError:
        return None
    return lap if hasattr(lap, "lapjvh") else None


def to_host(array: Array) -> Values:
    """The values as a NumPy array: the only way from a device to the host in the reference."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(array)
    if str(array.dtype).endswith("bfloat16"):  # which NumPy does not know
        array = array_namespace(array).astype(array, array_namespace(array).float32)
    if hasattr(array, "detach"):  # torch: older versions do not take DLPack's device
        return np.asarray(array.detach().cpu())
    return np.from_dlpack(array, device="cpu")
