"""The Jacobi auction on CuPy, two kernels a round; the host waits once in 16 rounds."""

import numpy as np
from array_api_compat import array_namespace, device

from immref.auction import MOST_ROUNDS, ROUNDS_A_LOOK, run_on_device
from immref_cupy.arrays import Array, placed, seen
from immref_cupy.kernels import WARP, kernel_of

THREADS = 256


def run(gain_BB: Array) -> tuple[Array, Array, Array]:
    """As the reference's, in float32, for which the gains are divided by the largest; of equal bids the last row's wins."""
    xp = array_namespace(gain_BB)
    largest = xp.max(xp.abs(gain_BB))
    largest = xp.where(largest > 0, largest, xp.ones_like(largest))
    taken_B, owner_B, price_B = run_on_device(xp.astype(gain_BB / largest, xp.float32), phase)
    return taken_B, owner_B, xp.astype(price_B, gain_BB.dtype) * largest


def phase(gain_BB: Array, price_B: Array, eps: Array, left: float) -> tuple[Array, Array]:
    """One auction from `price_B`, which it raises in place."""
    xp = array_namespace(gain_BB)
    count = gain_BB.shape[0]
    taken_B, owner_B = (xp.full((count,), -1, dtype=xp.int64, device=device(gain_BB)) for _ in range(2))
    highest_B = xp.zeros((count,), dtype=xp.uint64, device=device(gain_BB))
    rows, columns, size = -(-count * WARP // THREADS), -(-count // THREADS), np.int64(count)
    with placed(gain_BB):  # once for all rounds
        gain, price, taken, owner, highest, eps_1 = map(seen, (gain_BB, price_B, taken_B, owner_B, highest_B, xp.reshape(eps, (1,))))
        bid, award = (kernel_of(name, "float32") for name in ("bid", "award"))
        for _ in range(0, MOST_ROUNDS, ROUNDS_A_LOOK):
            for _ in range(ROUNDS_A_LOOK):
                bid((rows,), (THREADS,), (gain, price, taken, highest, eps_1, size))
                award((columns,), (THREADS,), (price, owner, taken, highest, size))
            if int(xp.count_nonzero(taken_B < 0)) <= left * count:
                break
    return taken_B, owner_B
