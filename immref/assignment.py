"""Batch-wise linear assignment (Section 3.3.1): a permutation of the noises that lies nearest to the images.

Shape suffixes: B images and as many noises, D numbers per image.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from immref._checks import Array
from immref.pairing import distances

COSTS = ("l2", "sqeuclidean")


def assign_batch(x_BD: Array, noise_BD: Array, cost: str) -> tuple[Array, Array, Array]:
    """The permutation of the noises with the least total cost; the solve runs on the host.

    Parameters
    ----------
    x_BD, noise_BD : arrays (B, D), float32 or float64
    cost : 'l2' (the paper: plain distances) or 'sqeuclidean' (equal to the largest total <n, x>)

    Returns
    -------
    index_B : int64 array, image i takes noise index[i]
    before_B, after_B : distances before and after
    """
    xp = array_namespace(x_BD)
    index_B = xp.asarray(solve(cost_matrix(x_BD, noise_BD, cost)), device=device(x_BD))
    return index_B, distances(x_BD, noise_BD), distances(x_BD, xp.take(noise_BD, index_B, axis=0))


def cost_matrix(x_BD: Array, noise_BD: Array, cost: str) -> np.ndarray[Any, Any]:
    """The (B, B) cost on the host, up to constants of rows and columns, which no permutation can feel."""
    dot_BB = to_host(x_BD @ noise_BD.T).astype(np.float64)
    if cost == "sqeuclidean":
        return -dot_BB
    xx_B, nn_B = (to_host(array_namespace(v).vecdot(v, v)).astype(np.float64) for v in (x_BD, noise_BD))
    cost_BB = np.sqrt(np.maximum(xx_B[:, None] + nn_B[None, :] - 2 * dot_BB, 0))
    cost_BB -= cost_BB.mean(axis=1, keepdims=True)  # centred, the solver needs about half the time
    cost_BB -= cost_BB.mean(axis=0, keepdims=True)
    return cost_BB


def solve(cost_BB: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """SciPy's exact solution; a cost that is not finite yields the identity (the caller's check names the row)."""
    if not np.isfinite(cost_BB).all():
        return np.arange(cost_BB.shape[0])
    from scipy.optimize import linear_sum_assignment  # here, because it takes four times as long to import as NumPy

    return np.asarray(linear_sum_assignment(cost_BB)[1], dtype=np.int64)


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """The values as a NumPy array: the only way from a device to the host in the reference."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(array)
    if hasattr(array, "detach"):  # torch: older versions do not take DLPack's device
        return np.asarray(array.detach().cpu())
    return np.from_dlpack(array, device="cpu")
