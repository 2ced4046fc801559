"""The public functions: every pairing method on arrays of any library.

`x` is any real floating array (B, ...): images, latents, video, action sequences. Only noise is
ever chosen or moved, never `x`, so labels and prompts stay aligned. Noise has the shape, dtype and
device of `x`; half precision is computed in float32 and cast at the end.

Shape suffixes: B images, K candidates, D numbers per image.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from array_api_compat import array_namespace, device

from immref import _checks, dispatch
from immref._checks import Array
from immref.collapsed import SMALLEST_DIMENSION, collapse_dot
from immref.dispatch import Backend, uncompiled
from immref.grouping import assign_within, labels_of
from immref.pairing import distances, scale
from immref.records import KNN, LinearAssignment, Paired, Pairing


@uncompiled
def vanilla(x: Array, *, rng: Any = None, backend: Any = None) -> Array:
    """Standard normal noise shaped like `x`: the baseline of every comparison ('miscible' in the paper).

    Parameters
    ----------
    x : real floating array (B, ...)
        Only its shape, dtype and device matter; the values are not looked at.
    rng : None, int, Seed, or a generator of x's library
        None is the library's default generator (NumPy: fresh entropy). An int n means
        ``Seed(n)``: it repeats the same noise on every call.
    backend : str or module, optional
        'auto', 'reference', 'torch', ...; wins over IMMREF_BACKEND.

    Returns
    -------
    array with the shape, dtype and device of `x`

    Examples
    --------
    >>> import numpy as np, immref
    >>> immref.vanilla(np.zeros((2, 3, 8, 8), dtype=np.float32), rng=0).shape
    (2, 3, 8, 8)
    """
    return _on_backend(lambda chosen, x_BD, **_: (_draw(chosen, x_BD, rng)[0],), backend, x)[0]


@uncompiled
def knn(
    x: Array,
    k: int | None = None,
    *,
    candidates: Array | None = None,
    score: Literal["l2", "dot"] = "l2",
    rng: Any = None,
    backend: Any = None,
) -> Array:
    """For each image the nearest of k noises by L2 distance (Algorithm 1, Section 3.3.2).

    Without `candidates`, and with at least 64 numbers per image, the k noises are never drawn: one
    noise and 2 (k - 1) numbers per image give exactly the same law (see `immref.collapsed`).
    k = 1 is `vanilla` bit for bit.

    Parameters
    ----------
    x : real floating array (B, ...)
        Finite; checked on the CPU. On an accelerator nothing waits: a row that is not finite has a distance in
        `pair`'s `after` that is not either.
    k : int ≥ 1
        Candidates per image. The paper's best: 4 or 8 at 3×32×32, 64 for 4×32×32 latents (Table 4).
    candidates : array (B, k, ...), optional
        Your own noises: Algorithm 1 literally; a tie goes to the first. Excludes `rng`.
    score : 'l2' (the paper) or 'dot'
        'dot' takes the largest <n, x> instead of the least |n - x|: the noise keeps its length. An extension.
    rng, backend
        As in `vanilla`.

    Returns
    -------
    array with the shape, dtype and device of `x`

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted.

    Examples
    --------
    >>> import numpy as np, immref
    >>> x = np.asarray([[1.0, 0.0]])
    >>> immref.knn(x, candidates=np.asarray([[[-1.0, 0.0], [0.5, 0.5]]]))
    array([[0.5, 0.5]])
    """
    if candidates is None:
        if k is None:
            raise TypeError("knn needs k (how many candidates to draw) or candidates=")
        return _on_backend(partial(_knn, pairing=KNN(k, score), rng=rng), backend, x)[0]
    _refuse_rng(rng)
    KNN(1, score)  # checks the score
    _checks.check_images(x)
    _checks.check_images(candidates, "candidates")
    _checks.check_same(x, candidates, (x.shape[0], candidates.shape[1], *x.shape[1:]), "candidates")
    if k is not None and _checks.check_int(k, "k", 1) != candidates.shape[1]:
        raise ValueError(f"k must be {candidates.shape[1]}, the number of candidates given, or be left out; got {k!r}")
    return _on_backend(partial(_nearest, score=score), backend, x, candidates)[0]


@uncompiled
def linear_assignment(
    x: Array,
    noise: Array | None = None,
    *,
    cost: Literal["l2", "sqeuclidean"] = "l2",
    solver: Literal["auto", "scipy", "auction"] = "auto",
    group: Array | None = None,
    rng: Any = None,
    backend: Any = None,
) -> Array:
    """The batch's noises permuted so that they lie nearest to its images (Section 3.3.1).

    Also called minibatch optimal transport; ``cost='sqeuclidean'`` is OT-CFM's. The noises as a set
    stay exactly standard normal. Given a label they do not when images of several labels exchange
    noises, and sampling a label from N(0, I) suffers: pass the labels as `group`.

    Parameters
    ----------
    x : real floating array (B, ...)
    noise : array like `x`, optional
        The noises to permute; drawn when left out. Excludes `rng`.
    cost : 'l2' (the paper) or 'sqeuclidean'
    solver : 'auto', 'scipy' or 'auction'
        'auto' is exact: an auction's prices, then `lap` or SciPy. 'scipy' is SciPy alone. 'auction' keeps
        about 99 % of the gain at a fraction of the time; `pair` returns the certified gap.
    group : integer array (B,), optional
        Labels; noises change places only within a label.
    rng, backend
        As in `vanilla`.

    Returns
    -------
    array with the shape, dtype and device of `x`: the rows of the noises, reordered

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted; for NaN and infinity on every device.

    Examples
    --------
    >>> import numpy as np, immref
    >>> immref.linear_assignment(np.asarray([[0.0], [1.0]]), np.asarray([[2.0], [-1.0]]))
    array([[-1.],
           [ 2.]])
    """
    pairing = LinearAssignment(cost, solver, "batch" if group is None else "label")
    _checks.check_images(x)
    labels_B = None if group is None else labels_of(group, x.shape[0])
    if noise is None:
        return _on_backend(partial(_assign, pairing=pairing, labels_B=labels_B, rng=rng), backend, x)[0]
    _refuse_rng(rng)
    _checks.check_same(x, noise, tuple(x.shape), "noise")
    return _on_backend(partial(_permute, pairing=pairing, labels_B=labels_B), backend, x, noise)[0]


@uncompiled
def pair(
    x: Array, pairing: Pairing, *, noise: Array | None = None, group: Array | None = None, rng: Any = None, backend: Any = None
) -> Paired:
    """Scale `x` and choose its noise as `pairing` says; what training loops call.

    Parameters
    ----------
    x : real floating array (B, ...)
    pairing : Pairing
    noise : array like `x`, optional
        For linear assignment: the noises to permute, as where several processes pool theirs. Excludes `rng`.
    group : integer array (B,), optional
        Labels of the images; needed for ``within='label'``, looked at by nothing else.
    rng, backend
        As in `vanilla`.

    Returns
    -------
    Paired
        `x`, `noise`, `index`, the mean distances `before` and `after`, and the `gap` of a near-exact assignment.

    Examples
    --------
    >>> import numpy as np, immref
    >>> paired = immref.pair(np.ones((8, 3, 16, 16), dtype=np.float32), immref.KNN(k=8), rng=0)
    >>> bool(paired.after < paired.before)
    True
    """
    if not isinstance(pairing, Pairing):
        raise TypeError(f"pairing must be an immref.Pairing, for example immref.KNN(k=8), got {pairing!r}")
    x = scale(x, pairing.scale)
    labels_B = None
    if pairing.within == "label":
        if group is None:
            raise ValueError("group must hold the labels of the images for a pairing within='label', got None")
        labels_B = labels_of(group, x.shape[0])
    given, compute = [x], partial(_knn, pairing=pairing, rng=rng)  # vanilla is k = 1
    if pairing.method == "linear_assignment":
        compute = partial(_assign, pairing=pairing, labels_B=labels_B, rng=rng)
    if noise is not None:
        if pairing.method != "linear_assignment":
            raise ValueError(f"noise must be left out for {pairing.method}: only linear assignment takes noises as they are")
        _refuse_rng(rng)
        _checks.check_same(x, noise, tuple(x.shape), "noise")
        given, compute = [x, noise], partial(_permute, pairing=pairing, labels_B=labels_B)
    noise, index_B, before_B, after_B, *gap = _on_backend(compute, backend, *given)
    xp = array_namespace(x)
    if pairing.method == "vanilla":
        index_B = xp.arange(x.shape[0], dtype=index_B.dtype, device=device(x))
    return Paired(x, noise, index_B, xp.asarray(xp.mean(before_B)), xp.asarray(xp.mean(after_B)), *gap)


def _refuse_rng(rng: Any) -> None:
    if rng is not None:
        raise TypeError("rng must be left out where the noises are given: nothing is drawn")


def _on_backend(compute: Callable[..., tuple[Array, ...]], backend: Any, *arrays: Array) -> tuple[Array, ...]:
    """Run `compute(backend, *flattened arrays)`, whose first result is noise, where and as `arrays[0]` wants it."""
    x = arrays[0]
    for array in arrays:
        _checks.check_images(array)
    chosen = dispatch.choose(x, backend).backend
    carried = dispatch.carry_in(chosen, *arrays)
    with dispatch.plain_arithmetic(carried[0]):
        away = carried[0] is not x  # NumPy's arrays come back to the host anyway, so there is nothing to be gained by not waiting
        noise_BD, *rest = compute(chosen, *(_flat(array, 1 + array.ndim - x.ndim) for array in carried), wait=away)
        xp = array_namespace(noise_BD)
        noise = xp.astype(xp.reshape(noise_BD, tuple(x.shape)), carried[0].dtype, copy=False)
    results = (noise, *rest)
    return results if not away else tuple(v if isinstance(v, float) else chosen.asnumpy(v) for v in results)


def _flat(array: Array, batch_axes: int) -> Array:
    """Flatten all but the first axes and widen half precision to float32."""
    xp = array_namespace(array)
    dtype = xp.float64 if array.dtype == xp.float64 else xp.float32
    return xp.astype(xp.reshape(array, (*array.shape[:batch_axes], -1)), dtype, copy=False)


def _draw(chosen: Backend, x_BD: Array, rng: Any) -> tuple[Array, Any]:
    """The noise that vanilla training uses, always drawn first, and the generator to go on with."""
    generator = chosen.generator(rng, x_BD)
    return chosen.normal(generator, tuple(x_BD.shape), x_BD), generator


def _knn(chosen: Backend, x_BD: Array, *, pairing: Pairing, rng: Any, wait: bool) -> tuple[Array, ...]:
    """The nearest of k noises drawn for each image: collapsed, or literally where D is tiny."""
    xp = array_namespace(x_BD)
    (count, dimension), more = x_BD.shape, pairing.k - 1
    if more and pairing.score == "l2" and dimension >= SMALLEST_DIMENSION and hasattr(chosen, "draw_and_collapse"):
        results: tuple[Array, ...] = chosen.draw_and_collapse(chosen.generator(rng, x_BD), x_BD, more)
        _checks.check_finite(results[2], x_BD, results[0], "noise", wait=wait)
        return results
    g_BD, generator = _draw(chosen, x_BD, rng)
    if not more:
        distance_B = distances(x_BD, g_BD)
        _checks.check_finite(distance_B, x_BD, g_BD, "noise", wait=wait)
        return g_BD, xp.zeros(count, dtype=_checks.widest(x_BD, "signed integer"), device=device(x_BD)), distance_B, distance_B
    if pairing.score == "dot":
        noise_BD, index_B, before_B, after_B = collapse_dot(x_BD, g_BD, chosen.normal(generator, (count, more), x_BD))
    elif dimension < SMALLEST_DIMENSION:
        more_BKD = chosen.normal(generator, (count, more, dimension), x_BD)
        return _nearest(chosen, x_BD, xp.concat([g_BD[:, None, :], more_BKD], axis=1), score="l2", wait=wait)
    else:
        noise_BD, index_B, before_B, after_B = chosen.collapse(x_BD, g_BD, *chosen.radial(generator, dimension - 1, (count, more), x_BD))
    _checks.check_finite(before_B, x_BD, g_BD, "noise", wait=wait)
    return noise_BD, index_B, before_B, after_B


def _nearest(chosen: Backend, x_BD: Array, noise_BKD: Array, *, score: str, wait: bool) -> tuple[Array, ...]:
    """Algorithm 1, line 2, among the noises given."""
    xp = array_namespace(x_BD)
    index_B, before_B, after_B = chosen.nearest_candidate(x_BD, noise_BKD, score)
    _checks.check_finite(after_B, x_BD, noise_BKD, "candidates", wait=wait)
    flat_ND = xp.reshape(noise_BKD, (-1, noise_BKD.shape[2]))
    rows_B = index_B + noise_BKD.shape[1] * xp.arange(x_BD.shape[0], dtype=index_B.dtype, device=device(x_BD))
    return xp.take(flat_ND, rows_B, axis=0), index_B, before_B, after_B


def _assign(chosen: Backend, x_BD: Array, *, pairing: Pairing, labels_B: Any, rng: Any, **_: bool) -> tuple[Array, ...]:
    """Fresh noises, permuted towards the images."""
    return _permute(chosen, x_BD, _draw(chosen, x_BD, rng)[0], pairing=pairing, labels_B=labels_B)


def _permute(chosen: Backend, x_BD: Array, noise_BD: Array, *, pairing: Pairing, labels_B: Any, **_: bool) -> tuple[Array, ...]:
    """The noises given, permuted towards the images; the solve waits for the device, so the check costs no extra wait."""
    solve = chosen.assign_batch if labels_B is None else partial(assign_within, chosen, labels_B=labels_B)
    with _checks.room_for_gains(x_BD):
        index_B, before_B, after_B, gap = solve(x_BD, noise_BD, pairing.cost, pairing.solver)
    _checks.check_finite(before_B, x_BD, noise_BD, "noise", wait=True)
    if math.isnan(gap):
        raise _checks.overflow(x_BD, noise_BD, "noise")
    return array_namespace(x_BD).take(noise_BD, index_B, axis=0), index_B, before_B, after_B, gap
