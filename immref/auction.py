"""A vectorised Jacobi auction for square assignment problems (Bertsekas 1979), on the host.

Rows bid for columns: each row without a column offers for its best one what makes it as good as the second best, plus eps;
a column goes to its highest bidder. The prices that result are duals: they bound how much any permutation could still gain,
and they tell an exact solver where to look. Bids are capped, because rows that want the same (duplicate images) outbid
each other eps by eps.

Shape suffixes: B rows and columns, F rows without a column.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from immref._checks import Array

Values = np.ndarray[Any, Any]

START = 1.25  # standard deviations above a column's mean gain at which its price starts: near where prices of image data end
PHASES = ((0.02, 0.02), (0.005, 0.01))  # eps as a share of the room to gain, a row and at most; the share of rows left over
LEFT = PHASES[-1][1]
MOST_BIDS = 40  # a row and phase
ROUNDS_A_LOOK = 16  # on a device, where all rows bid in every round, between two looks at how many are left
MOST_ROUNDS = 512  # of a phase there; the exact solver goes on from the prices


def run(gain_BB: Values) -> tuple[Values, Values, Values]:
    """Auction all columns, coarsely, then finely from the prices reached.

    Parameters
    ----------
    gain_BB : finite array (B, B), float32 or float64
        What row i gains by column j.

    Returns
    -------
    taken_B : int64 array, the column of each row, -1 for the rows left over
    owner_B : int64 array, the row of each column, -1 for the columns left over
    price_B : array (B,)
    """
    price_B = first_prices(gain_BB)
    room = (gain_BB - price_B).max(axis=1).mean() + price_B.mean() - gain_BB.mean()  # whatever the columns' own means are
    for eps, left in PHASES:
        taken_B, owner_B = phase(gain_BB, price_B, gain_BB.dtype.type(eps * room), left)
    return taken_B, owner_B, price_B


def run_on_device(gain_BB: Array, phase: Callable[[Array, Array, Array, float], tuple[Array, Array]]) -> tuple[Array, Array, Array]:
    """The same with a device's own `phase(gains, prices, eps, left)`; `eps` is a 0-d array, so nothing waits to know it."""
    xp = array_namespace(gain_BB)
    price_B = xp.mean(gain_BB, axis=0) + START * xp.std(gain_BB - xp.mean(gain_BB, axis=1, keepdims=True), axis=0)
    room = xp.mean(xp.max(gain_BB - price_B, axis=1)) + xp.mean(price_B) - xp.mean(gain_BB)
    for eps, left in PHASES:
        taken_B, owner_B = phase(gain_BB, price_B, eps * room, left)
    return taken_B, owner_B, price_B


def first_prices(gain_BB: Values) -> Values:
    """START standard deviations above each column's mean: the more a column's gains spread, the more rows will want it.

    What a row gains by every column alike is taken out beforehand; it decides nothing.
    """
    row_B, column_B = gain_BB.mean(axis=1, dtype=np.float64), gain_BB.mean(axis=0, dtype=np.float64)
    square_B = np.einsum("ij,ij->j", gain_BB, gain_BB, dtype=np.float64) - 2 * (row_B.astype(gain_BB.dtype) @ gain_BB) + row_B @ row_B
    variance_B = square_B / len(gain_BB) - (column_B - row_B.mean()) ** 2
    return np.asarray(column_B + START * np.sqrt(np.maximum(variance_B, 0)), dtype=gain_BB.dtype)


def phase(gain_BB: Values, price_B: Values, eps: float, left: float) -> tuple[Values, Values]:
    """One auction from `price_B`, which it raises in place; stops once at most `left` of the rows are without a column."""
    count = len(price_B)
    owner_B, taken_B = np.full(count, -1), np.full(count, -1)
    free_F = np.arange(count)
    bids = 0
    while len(free_F) > left * count and bids < MOST_BIDS * count:
        bids += len(free_F)
        value_FB = gain_BB[free_F] - price_B
        rows_F, best_F = np.arange(len(free_F)), value_FB.argmax(axis=1)
        top_F = value_FB[rows_F, best_F]
        value_FB[rows_F, best_F] = -np.inf
        offer_F = price_B[best_F] + (top_F - value_FB.max(axis=1)) + eps
        rising_F = np.argsort(offer_F, kind="stable")  # of several bids for a column the last written, the highest, stays
        column_F = best_F[rising_F]
        outbid_F = owner_B[column_F]
        owner_B[column_F] = free_F[rising_F]
        price_B[column_F] = offer_F[rising_F]
        taken_B[outbid_F[outbid_F >= 0]] = -1
        taken_B[owner_B[column_F]] = column_F
        free_F = np.flatnonzero(taken_B < 0)
    return taken_B, owner_B
