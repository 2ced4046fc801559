"""Draws on the device of `x` with a torch.Generator per call; nothing waits for the device."""

import math
from typing import Any

import torch
from torch import Tensor

from immref import Seed, reference
from immref.noise import word_on_host

TRIES = 3


def generator(rng: Any, like: Tensor) -> torch.Generator | None:
    """The torch generator that `rng` stands for; None is torch's default one."""
    if rng is None:
        return None
    if isinstance(rng, torch.Generator):
        if rng.device.type != like.device.type:
            raise ValueError(f"rng must be a generator on the device of x ({like.device}), got one on {rng.device}")
        return rng
    word = word_on_host(rng)
    if word is None:
        raise TypeError(
            f"rng must be None, an int, an immref.Seed, or a torch or NumPy generator, got {type(rng).__module__}.{type(rng).__name__}"
        )
    return torch.Generator(like.device).manual_seed(word)


def normal(rng: torch.Generator | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers in the dtype and on the device of `like`."""
    return torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device)


def radial(rng: torch.Generator | None, df: int, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """From normals in the dtype of `like`, as its noise; for float64 on the CPU the reference's draw, keyed by one word of `rng`."""
    if like.device.type == "cpu" and like.dtype == torch.float64:
        word = torch.randint(2**63 - 1, (), generator=rng, device=like.device)
        along, across = reference.radial(Seed(int(word)).generator(), df, shape, like)
        return along, across
    wide = torch.float32 if like.device.type == "mps" else torch.float64
    across = chi2 if like.device.type == "cpu" else chi2_without_waiting
    return normal(rng, shape, like).to(wide), across(rng, df, shape, like)


def chi2(rng: torch.Generator | None, df: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """chi2(df) by Marsaglia and Tsang (2000): of its two tests the cheap one settles nearly all; refused draws are drawn again."""
    d, count = df / 2 - 1 / 3, math.prod(shape)
    z, u = (draw(count, generator=rng, dtype=like.dtype, device=like.device) for draw in (torch.randn, torch.rand))
    v = z.double().mul_((9 * d) ** -0.5).add_(1).pow_(3)
    (unsure,) = (u >= z.square().square_().mul_(-0.0331).add_(1)).nonzero(as_tuple=True)
    refused = unsure[~accepted(z[unsure].double(), v[unsure], -torch.log(u[unsure].double()), d)]
    if len(refused):
        v[refused] = chi2(rng, df, (len(refused),), like) / (2 * d)
    return v.mul_(2 * d).reshape(shape)


def chi2_without_waiting(rng: torch.Generator | None, df: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The same with a fixed number of tries, so that nothing waits for the device.

    For df ≥ 63 a try is refused with probability below 1e-3; the last is accepted as it is, which
    touches fewer than one draw in 1e9.
    """
    wide = torch.float32 if like.device.type == "mps" else torch.float64
    z_T = torch.randn((TRIES, *shape), generator=rng, dtype=wide, device=like.device)
    cost_T = torch.empty_like(z_T).exponential_(generator=rng)  # -ln of the uniform number that decides
    d = df / 2 - 1 / 3
    v_T = (z_T / (9 * d) ** 0.5).add_(1).pow_(3)
    accepted_T = accepted(z_T, v_T, cost_T, d)
    drawn: Tensor = v_T[-1].clamp(min=0)
    for attempt in reversed(range(TRIES - 1)):
        drawn = torch.where(accepted_T[attempt], v_T[attempt], drawn)
    return drawn.mul(2 * d)


def accepted(z: Tensor, v: Tensor, cost: Tensor, d: float) -> Tensor:
    """Marsaglia and Tsang's exact test of v = (1 + z / sqrt(9 d))³, with cost = -ln of a uniform number."""
    return (v > 0) & (d * (v - 1 - torch.log(v.clamp(min=torch.finfo(v.dtype).tiny))) < 0.5 * z * z + cost)
