"""The only file of the reference that draws random numbers.

Numbers come from NumPy on the host and are handed to the library of `x`, so one
Seed gives every array library the same noise up to rounding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_cupy_array, is_jax_array, is_torch_array

from immref._checks import Array, check_int, whole, widest

WORD = 2**64


@dataclass(frozen=True)
class Seed:
    """Names one place in a stateless stream of noise, so nothing has to be saved to draw it again.

    Parameters
    ----------
    seed : int in [0, 2**64)
        The run.
    step, rank, micro : int in [0, 2**64)
        The training step, the process and the micro-batch within the step.

    Notes
    -----
    On the reference a Seed keys NumPy's counter-based Philox: (seed, step) is the key,
    (micro, rank) the upper half of the counter: different Seeds read different blocks of it.
    An accelerated backend seeds its own device generator with 63 bits of that stream. (torch's CPU
    generator keeps 32 of them: there two Seeds share their noise with probability 2**-32.)

    Examples
    --------
    >>> import numpy as np, immref
    >>> x = np.zeros((2, 3), dtype=np.float32)
    >>> again = immref.vanilla(x, rng=immref.Seed(0, step=7))
    >>> bool(np.all(again == immref.vanilla(x, rng=immref.Seed(0, step=7))))
    True
    """

    seed: int
    step: int = 0
    rank: int = 0
    micro: int = 0

    def __post_init__(self) -> None:
        for field in ("seed", "step", "rank", "micro"):
            object.__setattr__(self, field, check_int(getattr(self, field), f"Seed.{field}", 0, WORD))

    def generator(self, purpose: int = 0) -> np.random.Generator:
        """The NumPy generator at this place; `purpose` keeps streams apart (0 is the noise of `pair`)."""
        key = np.asarray([self.seed, self.step], dtype=np.uint64)
        counter = np.asarray([0, purpose, self.micro, self.rank], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def generator(rng: Any, like: Array) -> np.random.Generator:
    """The NumPy generator that `rng` stands for: None, an int, a Seed, a generator of NumPy, torch or CuPy, or a JAX key."""
    if is_jax_array(rng) and (rng.ndim or jax_key(rng)):
        return Seed(_word_from_jax(rng)).generator()
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, Seed):
        return rng.generator()
    if (word := whole(rng)) is not None:
        return Seed(word).generator()
    library = type(rng).__module__.partition(".")[0]
    if (library == "torch" and hasattr(rng, "initial_seed")) or (rng is None and is_torch_array(like)):
        return Seed(_word_from_torch(rng)).generator()
    if library == "cupy" or (rng is None and is_cupy_array(like)):
        return Seed(_word_from_cupy(rng)).generator()
    if rng is None:
        return np.random.default_rng()
    raise TypeError(
        f"rng must be None, an int, an immref.Seed, a generator of NumPy, torch or CuPy, or a JAX key, "
        f"got {type(rng).__module__}.{type(rng).__name__}"
    )


def word_on_host(rng: Any) -> int | None:
    """63 bits to seed a device's generator with, where `rng` lives on the host: an int, a Seed or a NumPy generator; else None."""
    if (number := whole(rng)) is not None:
        rng = Seed(number)
    if isinstance(rng, Seed):
        rng = rng.generator()
    return int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else None


def normal(rng: np.random.Generator, shape: tuple[int, ...], like: Array) -> Array:
    """Standard normal numbers of `shape` in the dtype (float32 or float64) and on the device of `like`."""
    xp = array_namespace(like)
    drawn = rng.standard_normal(shape, dtype=np.float64 if like.dtype == xp.float64 else np.float32)
    return xp.asarray(drawn, dtype=like.dtype, device=device(like))


def radial(rng: np.random.Generator, df: int, shape: tuple[int, ...], like: Array) -> tuple[Array, Array]:
    """The two numbers that place a candidate relative to its image: a ~ N(0, 1) along it, s ~ chi2(df) across it.

    float64 where the device of `like` has it, else float32.
    """
    xp, dtype = array_namespace(like), widest(like, "real floating")
    along, across = rng.standard_normal(shape), rng.chisquare(df, shape)
    return xp.asarray(along, dtype=dtype, device=device(like)), xp.asarray(across, dtype=dtype, device=device(like))


def _word_from_torch(rng: Any) -> int:
    import torch

    return int(torch.randint(2**63 - 1, (), generator=rng, device=None if rng is None else rng.device))


def _word_from_cupy(rng: Any) -> int:
    import cupy

    return int(cupy.random.randint(0, 2**63 - 1) if rng is None else rng.integers(0, 2**63 - 1))


def jax_key(array: Any) -> bool:
    """Whether a JAX array holds typed keys, which are 0-d each."""
    import jax

    return bool(jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key))


def _word_from_jax(key: Any) -> int:
    import jax

    wanted = 0 if jax_key(key) else 1  # axes of one typed key, of one raw key
    if key.ndim != wanted or (wanted == 1 and key.dtype != "uint32"):
        raise TypeError(f"rng must be one JAX key, got a JAX array {key.dtype} {key.shape}")
    low, high = (int(word) for word in jax.random.bits(key, (2,), "uint32"))
    return low + 2**32 * high
