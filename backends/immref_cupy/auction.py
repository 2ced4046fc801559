"""The Jacobi auction on CuPy, two kernels a round; the host waits once in 16 rounds."""

import numpy as np
from array_api_compat import array_namespace, device

from immref.auction import MOST_ROUNDS, ROUNDS_A_LOOK, run_on_device
from immref_cupy.arrays import Array
from immref_cupy.kernels import WARP, launch

THREADS = 256


def run(gain_BB: Array) -> tuple[Array, Array, Array]:
    """As the reference's, in float32; of equal bids the last row's wins."""
    xp = array_namespace(gain_BB)
    return run_on_device(xp.astype(gain_BB, xp.float32, copy=False), phase)


def phase(gain_BB: Array, price_B: Array, eps: Array, left: float) -> tuple[Array, Array]:
    """One auction from `price_B`, which it raises in place."""
    xp = array_namespace(gain_BB)
    count = gain_BB.shape[0]
    taken_B, owner_B = (xp.full((count,), -1, dtype=xp.int64, device=device(gain_BB)) for _ in range(2))
    highest_B = xp.zeros((count,), dtype=xp.uint64, device=device(gain_BB))
    eps_1 = xp.reshape(eps, (1,))
    for _ in range(0, MOST_ROUNDS, ROUNDS_A_LOOK):
        for _ in range(ROUNDS_A_LOOK):
            launch("bid", gain_BB, -(-count * WARP // THREADS), THREADS, gain_BB, price_B, taken_B, highest_B, eps_1, np.int64(count))
            launch("award", gain_BB, -(-count // THREADS), THREADS, price_B, owner_B, taken_B, highest_B, np.int64(count))
        if int(xp.count_nonzero(taken_B < 0)) <= left * count:
            break
    return taken_B, owner_B
