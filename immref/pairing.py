"""KNN among given candidates and image scaling: deterministic arithmetic.

Shape suffixes: B images, K candidates, D numbers per image.
"""

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from immref._checks import Array, check_images, check_scale, widest


def inner(first_BD: Array, second_BD: Array) -> Array:
    """<first, second> of each row, shape (B,)."""
    if is_torch_array(first_BD):  # the vecdot of torch's array-API namespace was several times slower than this
        return (first_BD * second_BD).sum(dim=-1)
    return array_namespace(first_BD).vecdot(first_BD, second_BD)


def distances(x_BD: Array, noise_BD: Array) -> Array:
    """L2 distance of each image to its noise, shape (B,)."""
    difference_BD = noise_BD - x_BD
    return array_namespace(x_BD).sqrt(inner(difference_BD, difference_BD))


def nearest_candidate(x_BD: Array, noise_BKD: Array, score: str) -> tuple[Array, Array, Array]:
    """Algorithm 1, line 2: for each image the candidate at the least L2 distance, or with the largest <n, x>.

    Parameters
    ----------
    x_BD : array (B, D), float32 or float64
    noise_BKD : array (B, K, D), dtype and device of `x_BD`
    score : 'l2' or 'dot'

    Returns
    -------
    index_B : int64 array, the chosen candidate; a tie goes to the first
    before_B, after_B : distance to candidate 0 and to the chosen
    """
    xp = array_namespace(x_BD)
    chosen_B = xp.zeros(x_BD.shape[0], dtype=widest(x_BD, "signed integer"), device=device(x_BD))
    for candidate in range(noise_BKD.shape[1]):
        distance_B = distances(x_BD, noise_BKD[:, candidate, :])
        score_B = distance_B if score == "l2" else -inner(x_BD, noise_BKD[:, candidate, :])
        score_B = xp.where(xp.isfinite(score_B), score_B, xp.nan)  # NaN and infinity are never passed over in silence
        if candidate == 0:
            least_B, before_B, after_B = score_B, distance_B, distance_B
            continue
        better_B = (score_B < least_B) | xp.isnan(score_B)
        chosen_B = xp.where(better_B, candidate, chosen_B)
        least_B = xp.where(better_B, score_B, least_B)
        after_B = xp.where(better_B, distance_B, after_B)
    return chosen_B, before_B, xp.where(xp.isnan(least_B), least_B, after_B)


def scale(x: Array, factor: float) -> Array:
    """Image scaling (Section 3.3.3): multiply normalised images by a factor, usually > 1.

    Images move apart while the noise stays: their diffused areas overlap less. A model trained
    on scaled images generates scaled images; divide by the same factor after sampling.

    Parameters
    ----------
    x : real floating array (B, ...)
    factor : float > 0

    Returns
    -------
    array like `x`; a factor of 1 returns `x` itself. Gradients flow through.

    Raises
    ------
    TypeError, ValueError
        For anything but a real floating array and a positive, finite number.

    Examples
    --------
    >>> import numpy as np, immref
    >>> immref.scale(np.asarray([[1.0, -0.5]]), 2.0)
    array([[ 2., -1.]])
    """
    check_images(x)
    factor = check_scale(factor)
    with np.errstate(all="ignore"):  # what overflows is infinity, on every library
        return x if factor == 1.0 else x * factor
