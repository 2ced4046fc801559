"""Diffusion arithmetic that every trainer shares: no checks of values, no dispatch, transparent to autograd.

A noisy image is x_t = a x + b n: DDPM and DDIM have (a, b) = (sqrt(alpha-bar), sqrt(1 - alpha-bar)), flow matching
has (t, 1 - t), from noise at t = 0 to data at t = 1, and consistency models have (1, sigma).
Coefficients are arrays (B,) in the dtype and on the device of the images, or Python floats that hold for all of them.

Shape suffix: B images.
"""

import numbers
from typing import Any

from immref._checks import Array, check_choice

Coefficient = Any  # an array (B,) like the images, or a float

PREDICTIONS = ("epsilon", "sample", "v_prediction", "velocity")  # diffusers' names, and flow matching's


def per_sample(coefficient_B: Coefficient, like: Array) -> Any:
    """A coefficient per sample (B,), shaped to multiply `like` (B, ...); a float stays a float, of no dtype."""
    if isinstance(coefficient_B, numbers.Real):
        return float(coefficient_B)  # NumPy's float64 is a number that would widen float32
    return coefficient_B[(slice(None), *(None,) * (like.ndim - 1))]


def corrupt(x: Array, noise: Array, a_B: Coefficient, b_B: Coefficient) -> Array:
    """Algorithm 1, line 3: x_t = a x + b n, with (a, b) = (sqrt(alpha), sqrt(1 - alpha)) or a flow's (t, 1 - t).

    Parameters
    ----------
    x, noise : arrays (B, ...)
    a_B, b_B : arrays (B,) in the dtype and on the device of `x`, or floats
    """
    return per_sample(a_B, x) * x + per_sample(b_B, x) * noise


def perturb(noise: Array, other: Array, weight_B: Coefficient) -> Array:
    """Eq. 1: N_orig + W N_pert, a noise in the neighbourhood of another.

    The sum is not re-normalised: for independent standard normal noises its variance is 1 + W².

    Parameters
    ----------
    noise, other : arrays (B, ...)
    weight_B : W as an array (B,) like `noise`, or a float; the paper's Figure 2 has 0.1, 0.2 and 0.3
    """
    return noise + per_sample(weight_B, noise) * other


def velocity(x: Array, noise: Array) -> Array:
    """The flow-matching target v = x - n, the constant speed from the noise to the image."""
    return x - noise


def velocity_from_data(x_t: Array, x: Array, t: float) -> Array:
    """The velocity at x_t that leads to the image `x`: (x - x_t) / (1 - t), for t < 1."""
    return (x - x_t) / float(1 - t)


def target(prediction: str, x: Array, noise: Array, a_B: Coefficient, b_B: Coefficient) -> Array:
    """What a network is trained to predict at x_t = a x + b n.

    Parameters
    ----------
    prediction : {"epsilon", "sample", "v_prediction", "velocity"}
        The noise n; the image x; v = a n - b x; flow matching's x - n.
    x, noise : arrays (B, ...)
        Those that made x_t.
    a_B, b_B : arrays (B,) like `x`, or floats

    Raises
    ------
    ValueError
        For another prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from immref.diffusion import corrupt, recover, target
    >>> x, noise = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, -1.0]])
    >>> v = target("v_prediction", x, noise, 0.6, 0.8)
    >>> recover("v_prediction", v, corrupt(x, noise, 0.6, 0.8), 0.6, 0.8)[0].round(12)
    array([[1., 2.]])
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return x
    if prediction == "velocity":
        return velocity(x, noise)
    return per_sample(a_B, x) * noise - per_sample(b_B, x) * x


def recover(prediction: str, output: Array, x_t: Array, a_B: Coefficient, b_B: Coefficient) -> tuple[Array, Array]:
    """The image and the noise that a prediction at x_t stands for: Eq. 2, and its like for the other predictions.

    x_t and the prediction are two linear combinations of x and n; this solves them for any a, b ≥ 0.
    With a² + b² = 1, x is a x_t - b v; with a + b = 1, x is x_t + b (x - n).

    Parameters
    ----------
    prediction : {"epsilon", "sample", "v_prediction", "velocity"}
    output, x_t : arrays (B, ...)
        The prediction, and where it was made.
    a_B, b_B : arrays (B,) like `x_t`, or floats

    Returns
    -------
    x, noise : arrays like `x_t`; what was predicted outright is `output` itself
        A noise predicted at a = 0 says nothing about the image, nor an image at b = 0 about the noise: not finite there.

    Raises
    ------
    ValueError
        For another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    a, b = per_sample(a_B, x_t), per_sample(b_B, x_t)
    if prediction == "epsilon":
        return (x_t - b * output) / a, output
    if prediction == "sample":
        return output, (x_t - a * output) / b
    if prediction == "velocity":
        return (x_t + b * output) / (a + b), (x_t - a * output) / (a + b)
    square = a * a + b * b
    return (a * x_t - b * output) / square, (b * x_t + a * output) / square


def ddim_step(
    prediction: str, output: Array, x_t: Array, a_B: Coefficient, b_B: Coefficient, next_a_B: Coefficient, next_b_B: Coefficient
) -> Array:
    """DDIM's deterministic step (eta = 0): the image and noise predicted at (a, b), mixed anew at the next (a', b').

    At (t, 1 - t) with the velocity, and at (1, sigma), this is Euler's step. The last step goes to (1, 0): the image.

    Parameters
    ----------
    prediction : {"epsilon", "sample", "v_prediction", "velocity"}
    output, x_t : arrays (B, ...)
    a_B, b_B, next_a_B, next_b_B : arrays (B,) like `x_t`, or floats

    Raises
    ------
    ValueError
        For another prediction.
    """
    x, noise = recover(prediction, output, x_t, a_B, b_B)
    return corrupt(x, noise, next_a_B, next_b_B)


def consistency_scalings(
    sigma_B: Coefficient, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> tuple[Coefficient, Coefficient, Coefficient]:
    """Karras' c_skip, c_out and c_in, shifted so that a consistency model is the identity at sigma_min.

    c_skip = s² / ((sigma - sigma_min)² + s²), c_out = (sigma - sigma_min) s / sqrt(sigma² + s²) and
    c_in = 1 / sqrt(sigma² + s²), where s is sigma_data (Song et al. 2023, appendix C).

    Parameters
    ----------
    sigma_B : noise levels ≥ sigma_min, float32 or float64: an array (B,), or a float
    sigma_data : standard deviation of the data, scaling included: 0.5 s under image scaling by s
    sigma_min : the least noise level, where c_skip is 1 and c_out is 0, exactly
    """
    above_B, length_B = sigma_B - sigma_min, (sigma_B**2 + sigma_data**2) ** 0.5
    return sigma_data**2 / (above_B**2 + sigma_data**2), above_B * sigma_data / length_B, 1 / length_B


def consistency(output: Array, x_t: Array, sigma_B: Coefficient, sigma_data: float = 0.5, sigma_min: float = 0.002) -> Array:
    """The consistency function f(x_t, sigma) = c_skip x_t + c_out F, with F the network's output at c_in x_t.

    Parameters
    ----------
    output, x_t : arrays (B, ...), float32 or float64; x_t = x + sigma n
    sigma_B, sigma_data, sigma_min : as for `consistency_scalings`
    """
    c_skip_B, c_out_B, _ = consistency_scalings(sigma_B, sigma_data, sigma_min)
    return corrupt(x_t, output, c_skip_B, c_out_B)
