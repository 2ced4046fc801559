"""Diffusion arithmetic that every trainer shares: no checks, no dispatch, transparent to autograd.

Flow matching runs from noise at t = 0 to data at t = 1: x_t = t x + (1 - t) n, velocity v = x - n.
"""

from immref._checks import Array


def per_sample(coefficient_B: Array, like: Array) -> Array:
    """A coefficient per sample (B,), shaped to multiply `like` (B, ...)."""
    return coefficient_B[(slice(None), *(None,) * (like.ndim - 1))]


def corrupt(x: Array, noise: Array, a_B: Array, b_B: Array) -> Array:
    """Algorithm 1, line 3: x_t = a x + b n, with (a, b) = (sqrt(alpha), sqrt(1 - alpha)) or a flow's (t, 1 - t).

    Parameters
    ----------
    x, noise : arrays (B, ...)
    a_B, b_B : arrays (B,) in the dtype and on the device of `x`
    """
    return per_sample(a_B, x) * x + per_sample(b_B, x) * noise


def velocity(x: Array, noise: Array) -> Array:
    """The flow-matching target v = x - n, the constant speed from the noise to the image."""
    return x - noise


def velocity_from_data(x_t: Array, x: Array, t: float) -> Array:
    """The velocity at x_t that leads to the image `x`: (x - x_t) / (1 - t), for t < 1."""
    return (x - x_t) / (1 - t)
