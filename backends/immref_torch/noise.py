"""Draws on the device of `x` with a torch.Generator per call; nothing waits for the device."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref import Seed, reference

TRIES = 3


def generator(rng: Any, like: Tensor) -> torch.Generator | None:
    """The torch generator that `rng` stands for; None is torch's default one."""
    if rng is None:
        return None
    if isinstance(rng, torch.Generator):
        if rng.device.type != like.device.type:
            raise ValueError(f"rng must be a generator on the device of x ({like.device}), got one on {rng.device}")
        return rng
    if isinstance(rng, np.random.Generator):
        word = rng.integers(2**63)
    elif isinstance(rng, Seed):
        word = rng.generator().integers(2**63)
    elif hasattr(rng, "__index__") and not isinstance(rng, bool):
        word = Seed(int(rng)).generator().integers(2**63)
    else:
        raise TypeError(
            f"rng must be None, an int, an immref.Seed, or a torch or NumPy generator, got {type(rng).__module__}.{type(rng).__name__}"
        )
    return torch.Generator(like.device).manual_seed(int(word))


def normal(rng: torch.Generator | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers in the dtype and on the device of `like`."""
    return torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device)


def radial(rng: torch.Generator | None, df: int, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """On the CPU the reference's draw, keyed by one word of `rng`; elsewhere nothing waits for the device."""
    if like.device.type == "cpu":
        word = torch.randint(2**63 - 1, (), generator=rng)
        along, across = reference.radial(Seed(int(word)).generator(), df, shape, like)
        return along, across
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    return torch.randn(shape, generator=rng, dtype=dtype, device=like.device), chi2(rng, df, shape, dtype, like.device)


def chi2(rng: torch.Generator | None, df: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """chi2(df) by Marsaglia and Tsang (2000) with a fixed number of tries, so that nothing waits for the device.

    For df ≥ 63 a try is refused with probability below 1e-3; the last is accepted as it is, which
    touches fewer than one draw in 1e9.
    """
    z_T = torch.randn((TRIES, *shape), generator=rng, dtype=dtype, device=device)
    cost_T = torch.empty_like(z_T).exponential_(generator=rng)  # -ln of the uniform number that decides
    d = df / 2 - 1 / 3
    v_T = (z_T / (9 * d) ** 0.5).add_(1).pow_(3).clamp_(min=torch.finfo(dtype).tiny)
    accepted_T = d * (v_T - 1 - torch.log(v_T)) < 0.5 * z_T * z_T + cost_T
    drawn: Tensor = v_T[-1]
    for attempt in reversed(range(TRIES - 1)):
        drawn = torch.where(accepted_T[attempt], v_T[attempt], drawn)
    return drawn.mul(2 * d)
