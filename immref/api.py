"""The public functions: every pairing method on arrays of any library.

`x` is any real floating array (B, ...): images, latents, video, action sequences. Only noise is
ever chosen or moved, never `x`, so labels and prompts stay aligned. Noise has the shape, dtype and
device of `x`; half precision is computed in float32 and cast at the end.

Shape suffixes: B images, K candidates, D numbers per image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from array_api_compat import array_namespace, device

from immref import _checks, dispatch
from immref._checks import Array
from immref.assignment import COSTS
from immref.collapsed import SMALLEST_DIMENSION
from immref.dispatch import Backend, uncompiled
from immref.pairing import distances, scale

METHODS = ("vanilla", "knn", "linear_assignment")


@dataclass(frozen=True)
class Pairing:
    """How a training batch gets its noise: one record from the command line to the kernel.

    Parameters
    ----------
    method : 'vanilla', 'knn' (Section 3.3.2) or 'linear_assignment' (Section 3.3.1)
    k : int ≥ 1
        Candidates per image; only 'knn' takes k > 1.
    scale : float > 0
        Image scaling (Section 3.3.3); combines with every method.
    cost : 'l2' (the paper) or 'sqeuclidean' (OT-CFM)
        What 'linear_assignment' minimises.
    """

    method: Literal["vanilla", "knn", "linear_assignment"] = "vanilla"
    k: int = 1
    scale: float = 1.0
    cost: Literal["l2", "sqeuclidean"] = "l2"

    def __post_init__(self) -> None:
        _checks.check_choice(self.method, "method", METHODS)
        _checks.check_choice(self.cost, "cost", COSTS)
        object.__setattr__(self, "k", _checks.check_int(self.k, "k", 1))
        object.__setattr__(self, "scale", _checks.check_scale(self.scale))
        if self.k > 1 and self.method != "knn":
            raise ValueError(f"k={self.k} needs method 'knn', got {self.method!r}")
        if self.cost != COSTS[0] and self.method != "linear_assignment":
            raise ValueError(f"cost={self.cost!r} needs method 'linear_assignment', got {self.method!r}")

    def __str__(self) -> str:
        method = f"KNN k={self.k}" if self.method == "knn" else self.method.replace("_", " ")
        if self.method == "linear_assignment" and self.cost != "l2":
            method += f" ({self.cost})"
        if self.scale == 1:
            return method
        factor = f"image ×{repr(self.scale).removesuffix('.0')}"
        return factor if self.method == "vanilla" else f"{method}, {factor}"


def Vanilla() -> Pairing:
    """Independent noise, as in ordinary diffusion training."""
    return Pairing()


def KNN(k: int, scale: float = 1.0) -> Pairing:
    """The nearest of k noises for each image (Section 3.3.2)."""
    return Pairing("knn", k=k, scale=scale)


def LinearAssignment(cost: Literal["l2", "sqeuclidean"] = "l2", scale: float = 1.0) -> Pairing:
    """The batch's noises permuted towards its images (Section 3.3.1)."""
    return Pairing("linear_assignment", cost=cost, scale=scale)


def ImageScaling(scale: float) -> Pairing:
    """Vanilla noise, scaled images (Section 3.3.3)."""
    return Pairing(scale=scale)


@dataclass(frozen=True)
class Paired:
    """A batch and the noise it goes with; hand it on whole, so that one noise corrupts and is the target.

    Attributes
    ----------
    x : array (B, ...), the images after scaling
    noise : array like `x`
    index : int64 array (B,)
        KNN: which candidate was nearest; assignment: which noise image i took; vanilla: 0 … B-1.
    before, after : 0-d arrays on the device of `x`
        Mean L2 distance of the images to the noise that vanilla would have used, and to `noise`.
    """

    x: Array
    noise: Array
    index: Array
    before: Array
    after: Array


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
    return _on_backend(lambda chosen, x_BD: (_draw(chosen, x_BD, rng)[0],), backend, x)[0]


@uncompiled
def knn(x: Array, k: int | None = None, *, candidates: Array | None = None, rng: Any = None, backend: Any = None) -> Array:
    """For each image the nearest of k noises by L2 distance (Algorithm 1, Section 3.3.2).

    Without `candidates`, and with at least 64 numbers per image, the k noises are never drawn: one
    noise and 2 (k - 1) numbers per image give exactly the same law (see `immref.collapsed`).
    k = 1 is `vanilla` bit for bit.

    Parameters
    ----------
    x : real floating array (B, ...)
        Finite; checked on the CPU. On an accelerator nothing waits: a non-finite row has a NaN distance
        in `pair`'s `after`, and its noise is NaN where D ≥ 64.
    k : int ≥ 1
        Candidates per image. The paper's best: 4 or 8 at 3×32×32, 64 for 4×32×32 latents (Table 4).
    candidates : array (B, k, ...), optional
        Your own noises: Algorithm 1 literally; a tie goes to the first. Excludes `rng`.
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
        return _on_backend(partial(_knn, k=KNN(k).k, rng=rng), backend, x)[0]
    _refuse_rng(rng)
    _checks.check_images(x)
    _checks.check_images(candidates, "candidates")
    _checks.check_same(x, candidates, (x.shape[0], candidates.shape[1], *x.shape[1:]), "candidates")
    if k is not None and k != candidates.shape[1]:
        raise ValueError(f"k must be {candidates.shape[1]}, the number of candidates given, or be left out; got {k!r}")
    return _on_backend(_nearest, backend, x, candidates)[0]


@uncompiled
def linear_assignment(
    x: Array, noise: Array | None = None, *, cost: Literal["l2", "sqeuclidean"] = "l2", rng: Any = None, backend: Any = None
) -> Array:
    """The batch's noises permuted so that they lie nearest to its images (Section 3.3.1).

    Also called minibatch optimal transport; ``cost='sqeuclidean'`` is OT-CFM's. The noises as a set
    stay exactly standard normal; given a label they do not, when images of several labels share a
    batch. Exact; O(B³) on the host.

    Parameters
    ----------
    x : real floating array (B, ...)
    noise : array like `x`, optional
        The noises to permute; drawn when left out. Excludes `rng`.
    cost : 'l2' (the paper) or 'sqeuclidean'
    rng, backend
        As in `vanilla`.

    Returns
    -------
    array with the shape, dtype and device of `x`: the rows of the noises, reordered

    Examples
    --------
    >>> import numpy as np, immref
    >>> immref.linear_assignment(np.asarray([[0.0], [1.0]]), np.asarray([[2.0], [-1.0]]))
    array([[-1.],
           [ 2.]])
    """
    _checks.check_choice(cost, "cost", COSTS)
    if noise is None:
        return _on_backend(partial(_assign, cost=cost, rng=rng), backend, x)[0]
    _refuse_rng(rng)
    _checks.check_images(x)
    _checks.check_same(x, noise, tuple(x.shape), "noise")
    return _on_backend(partial(_permute, cost=cost), backend, x, noise)[0]


@uncompiled
def pair(x: Array, pairing: Pairing, *, rng: Any = None, backend: Any = None) -> Paired:
    """Scale `x` and choose its noise as `pairing` says; what training loops call.

    Parameters
    ----------
    x : real floating array (B, ...)
    pairing : Pairing
    rng, backend
        As in `vanilla`.

    Returns
    -------
    Paired
        `x`, `noise`, `index` and the mean distances `before` and `after`.

    Examples
    --------
    >>> import numpy as np, immref
    >>> paired = immref.pair(np.ones((8, 3, 16, 16), dtype=np.float32), immref.KNN(k=8), rng=0)
    >>> bool(paired.after < paired.before)
    True
    """
    if not isinstance(pairing, Pairing):
        raise TypeError(f"pairing must be an immref.Pairing, for example immref.KNN(k=8), got {pairing!r}")
    compute: Callable[..., tuple[Array, ...]]
    compute = partial(_knn, k=pairing.k, rng=rng)  # vanilla is k = 1
    if pairing.method == "linear_assignment":
        compute = partial(_assign, cost=pairing.cost, rng=rng)
    x = scale(x, pairing.scale)
    noise, index_B, before_B, after_B = _on_backend(compute, backend, x)
    xp = array_namespace(x)
    if pairing.method == "vanilla":
        index_B = xp.arange(x.shape[0], dtype=index_B.dtype, device=device(x))
    return Paired(x, noise, index_B, xp.asarray(xp.mean(before_B)), xp.asarray(xp.mean(after_B)))


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
        noise_BD, *rest = compute(chosen, *(_flat(array, 1 + array.ndim - x.ndim) for array in carried))
        xp = array_namespace(noise_BD)
        noise = xp.astype(xp.reshape(noise_BD, tuple(x.shape)), carried[0].dtype, copy=False)
    results = (noise, *rest)
    return results if carried[0] is x else tuple(chosen.asnumpy(result) for result in results)


def _flat(array: Array, batch_axes: int) -> Array:
    """Flatten all but the first axes and widen half precision to float32."""
    xp = array_namespace(array)
    dtype = xp.float64 if array.dtype == xp.float64 else xp.float32
    return xp.astype(xp.reshape(array, (*array.shape[:batch_axes], -1)), dtype, copy=False)


def _draw(chosen: Backend, x_BD: Array, rng: Any) -> tuple[Array, Any]:
    """The noise that vanilla training uses, always drawn first, and the generator to go on with."""
    generator = chosen.generator(rng, x_BD)
    return chosen.normal(generator, tuple(x_BD.shape), x_BD), generator


def _knn(chosen: Backend, x_BD: Array, *, k: int, rng: Any) -> tuple[Array, ...]:
    """The nearest of k noises drawn for each image: collapsed, or literally where D is tiny."""
    xp = array_namespace(x_BD)
    count, dimension = x_BD.shape
    g_BD, generator = _draw(chosen, x_BD, rng)
    if k == 1:
        distance_B = distances(x_BD, g_BD)
        _checks.check_finite(distance_B, x_BD, g_BD, "noise")
        return g_BD, xp.zeros(count, dtype=xp.int64, device=device(x_BD)), distance_B, distance_B
    if dimension < SMALLEST_DIMENSION:
        more_BKD = chosen.normal(generator, (count, k - 1, dimension), x_BD)
        return _nearest(chosen, x_BD, xp.concat([g_BD[:, None, :], more_BKD], axis=1))
    noise_BD, index_B, before_B, after_B = chosen.collapse(x_BD, g_BD, *chosen.radial(generator, dimension - 1, (count, k - 1), x_BD))
    _checks.check_finite(before_B, x_BD, g_BD, "noise")
    return noise_BD, index_B, before_B, after_B


def _nearest(chosen: Backend, x_BD: Array, noise_BKD: Array) -> tuple[Array, ...]:
    """Algorithm 1, line 2, among the noises given."""
    xp = array_namespace(x_BD)
    index_B, before_B, after_B = chosen.nearest_candidate(x_BD, noise_BKD)
    _checks.check_finite(after_B, x_BD, noise_BKD, "candidates")
    flat_ND = xp.reshape(noise_BKD, (-1, noise_BKD.shape[2]))
    rows_B = index_B + noise_BKD.shape[1] * xp.arange(x_BD.shape[0], dtype=index_B.dtype, device=device(x_BD))
    return xp.take(flat_ND, rows_B, axis=0), index_B, before_B, after_B


def _assign(chosen: Backend, x_BD: Array, *, cost: str, rng: Any) -> tuple[Array, ...]:
    """Fresh noises, permuted towards the images."""
    return _permute(chosen, x_BD, _draw(chosen, x_BD, rng)[0], cost=cost)


def _permute(chosen: Backend, x_BD: Array, noise_BD: Array, *, cost: str) -> tuple[Array, ...]:
    """The noises given, permuted towards the images; the solve is on the host, so the check costs no extra wait."""
    index_B, before_B, after_B = chosen.assign_batch(x_BD, noise_BD, cost)
    _checks.check_finite(before_B, x_BD, noise_BD, "noise", wait=True)
    return array_namespace(x_BD).take(noise_BD, index_B, axis=0), index_B, before_B, after_B
