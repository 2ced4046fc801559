"""KNN noise selection at the price of one noise.

Seen from its image x, with u = x/|x|, a standard normal candidate is n_j = a_j u + t_j where
a_j ~ N(0, 1), |t_j|^2 = s_j ~ chi2(D - 1) and the direction of t_j is uniform, all independent.
Its distance |n_j - x|^2 = (a_j - |x|)^2 + s_j does not see that direction. So the winner of K
candidates is found from 2 (K - 1) scalars and one noise g, which is candidate 0 itself; the winner
takes its direction from g. The law is exactly that of drawing K noises and keeping the nearest
(Algorithm 1, line 2), for O(B (K + D)) numbers instead of O(B K D).

Shape suffixes: B images, K candidates besides candidate 0, D numbers per image.
"""

from array_api_compat import array_namespace

from immref._checks import Array, widest
from immref.pairing import distances, inner

SMALLEST_DIMENSION = 64  # below, |g|^2 - a_0^2 cancels and K noises cost nothing: Algorithm 1 literally


def collapse(x_BD: Array, g_BD: Array, a_BK: Array, s_BK: Array) -> tuple[Array, Array, Array, Array]:
    """Turn one noise and the scalars of K further candidates into the nearest of all K + 1.

    Parameters
    ----------
    x_BD, g_BD : arrays (B, D), float32 or float64
        Images, and candidate 0: the noise that vanilla training would have used. `g_BD` is handed over: where arrays
        can be written to, the result is built in it.
    a_BK, s_BK : arrays (B, K), float64 where the library has it
        For each further candidate its coordinate along x ~ N(0, 1) and the squared norm of the
        rest ~ chi2(D - 1).

    Returns
    -------
    noise_BD : the nearest candidate; `g_BD` bit for bit where candidate 0 wins
    index_B : int64 array in [0, K]; a tie goes to the first
    before_B, after_B : distance of candidate 0 and of the nearest
    """
    xp = array_namespace(x_BD)
    real = a_BK.dtype
    xx_B, xg_B, gg_B = (xp.astype(inner(p, q), real) for p, q in ((x_BD, x_BD), (x_BD, g_BD), (g_BD, g_BD)))
    norm_B = xp.sqrt(xx_B)
    null_B = norm_B == 0  # x = 0 has no direction: every candidate lies across it
    safe_B = xp.where(null_B, xp.ones_like(norm_B), norm_B)
    a0_B = xg_B / safe_B
    s0_B = gg_B - a0_B**2
    s_BK = xp.where(null_B[:, None], a_BK**2 + s_BK, s_BK)
    a_BK = xp.where(null_B[:, None], xp.zeros_like(a_BK), a_BK)

    a_BK = xp.concat([a0_B[:, None], a_BK], axis=1)
    s_BK = xp.concat([s0_B[:, None], s_BK], axis=1)
    squared_BK = (a_BK - norm_B[:, None]) ** 2 + s_BK
    index_B = xp.astype(xp.argmin(squared_BK, axis=1), widest(x_BD, "signed integer"), copy=False)  # of equals the first
    aJ_B, sJ_B, nearest_B = (xp.take_along_axis(v, index_B[:, None], axis=1)[:, 0] for v in (a_BK, s_BK, squared_BK))

    stretch_B = xp.where(index_B == 0, xp.ones_like(sJ_B), xp.sqrt(sJ_B / s0_B))
    shift_B = (aJ_B - stretch_B * a0_B) / safe_B
    g_BD *= xp.astype(stretch_B, x_BD.dtype)[:, None]
    g_BD += x_BD * xp.astype(shift_B, x_BD.dtype)[:, None]
    return g_BD, index_B, xp.sqrt(squared_BK[:, 0]), xp.sqrt(nearest_B)


def collapse_dot(x_BD: Array, g_BD: Array, a_BK: Array) -> tuple[Array, Array, Array, Array]:
    """The candidate with the largest <n, x> instead of the nearest (score 'dot'): only the part along x is exchanged.

    <n_j, x> = a_j |x| sees nothing but a_j, so what lies across x, its length included, is g's own.

    Parameters
    ----------
    x_BD, g_BD : arrays (B, D), float32 or float64
        Images, and candidate 0.
    a_BK : array (B, K)
        The coordinate along x of each further candidate ~ N(0, 1).

    Returns
    -------
    noise_BD : g + (a_J - a_0) u; `g_BD` where candidate 0 wins, and where x = 0 (all scores are 0)
    index_B : int64 array in [0, K]; a tie goes to the first
    before_B, after_B : distance of candidate 0 and of the chosen
    """
    xp = array_namespace(x_BD)
    norm_B = xp.sqrt(inner(x_BD, x_BD))
    null_B = norm_B == 0
    safe_B = xp.where(null_B, xp.ones_like(norm_B), norm_B)
    a0_B = inner(x_BD, g_BD) / safe_B
    a_BK = xp.where(null_B[:, None], xp.zeros_like(a_BK), a_BK)
    a_BK = xp.concat([a0_B[:, None], a_BK], axis=1)
    index_B = xp.astype(xp.argmax(a_BK, axis=1), widest(x_BD, "signed integer"), copy=False)
    aJ_B = xp.take_along_axis(a_BK, index_B[:, None], axis=1)[:, 0]
    noise_BD = g_BD + x_BD * ((aJ_B - a0_B) / safe_B)[:, None]
    return noise_BD, index_B, distances(x_BD, g_BD), distances(x_BD, noise_BD)
