"""Tables of coefficients, noise levels and steps, as NumPy arrays in float64.

Shape suffixes: T training steps, S sampling steps, N noise levels.
"""

import math
import numbers
from typing import Any

import numpy as np

from immref._checks import check_choice, check_int

FloatArray = np.ndarray[Any, Any]

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("leading", "trailing", "linspace")
DDPM_BETAS = (1e-4, 0.02)
LARGEST_BETA = 0.999  # Nichol & Dhariwal's cap


def alpha_bar(schedule: str, train_steps: int, beta_start: float | None = None, beta_end: float | None = None) -> FloatArray:
    """The products alpha-bar_t = (1 - beta_0) ... (1 - beta_t), under diffusers' names.

    Parameters
    ----------
    schedule : {"linear", "scaled_linear", "squaredcos_cap_v2"}
        beta rises evenly (DDPM); its root does (Stable Diffusion, 0.00085 to 0.012); or the cosine schedule of Nichol &
        Dhariwal: alpha-bar_t = f(t + 1) / f(0) with f(t) = cos²((t / T + 0.008) / 1.008 · pi / 2), beta at most 0.999.
    train_steps : int T ≥ 1
    beta_start, beta_end : 0 < beta_start < beta_end < 1
        0.0001 and 0.02 unless given (DDPM); the cosine schedule has none.

    Returns
    -------
    alpha_bar_T : array (T,), falling, in [0, 1)

    Raises
    ------
    TypeError, ValueError
        For an unknown schedule, no steps, or betas that do not rise.

    Examples
    --------
    >>> from immref import schedules
    >>> schedules.alpha_bar("linear", 2, 0.5, 0.75)
    array([0.5  , 0.125])
    """
    check_choice(schedule, "schedule", SCHEDULES)
    check_int(train_steps, "train_steps", 1)
    if schedule == "squaredcos_cap_v2":
        if beta_start is not None or beta_end is not None:
            raise ValueError(f"beta_start and beta_end must be left out for squaredcos_cap_v2, got {beta_start!r} and {beta_end!r}")
        f = np.cos((np.linspace(0.0, 1.0, train_steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.asarray(np.cumprod(np.maximum(f[1:] / f[:-1], 1 - LARGEST_BETA)))
    start = _positive(DDPM_BETAS[0] if beta_start is None else beta_start, "beta_start")
    end = _positive(DDPM_BETAS[1] if beta_end is None else beta_end, "beta_end")
    if not start < end < 1:
        raise ValueError(f"beta_end must be > beta_start and < 1, got beta_start={start!r} and beta_end={end!r}")
    power = 2 if schedule == "scaled_linear" else 1
    return np.asarray(np.cumprod(1 - np.linspace(start ** (1 / power), end ** (1 / power), train_steps) ** power))


def coefficients(alpha_bar_T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(a, b) = (sqrt(alpha-bar), sqrt(1 - alpha-bar)) of x_t = a x + b n (Algorithm 1, line 3).

    Parameters
    ----------
    alpha_bar_T : array of numbers in [0, 1]; 1 is the image itself, 0 pure noise

    Raises
    ------
    ValueError
        For a number outside [0, 1].
    """
    values_T = np.asarray(alpha_bar_T, dtype=np.float64)
    outside = values_T[~((values_T >= 0) & (values_T <= 1))]
    if outside.size:
        raise ValueError(f"alpha_bar_T must lie in [0, 1], got {float(outside[0])!r}")
    return np.sqrt(values_T), np.sqrt(1 - values_T)


def ddim_steps(train_steps: int, steps: int, spacing: str = "leading", steps_offset: int = 0) -> np.ndarray[Any, Any]:
    """The training steps that a DDIM sampler visits, falling, under diffusers' names.

    A sampler steps from each to the next, and from the last to the image. (diffusers' DDIMScheduler steps from t to
    t - T // S, which is the next one for "leading", for "trailing" where S divides T, for "linspace" only where S = T.)

    Parameters
    ----------
    train_steps : int T ≥ 1
    steps : int S in [1, T]
    spacing : {"leading", "trailing", "linspace"}
        Every (T // S)-th step from `steps_offset` on (the paper's linear selection); every (T / S)-th, rounded half to
        even, down from the last; or evenly from the last to 0, both held, for S ≥ 2.
    steps_offset : int ≥ 0, for "leading" alone; Stable Diffusion has 1

    Returns
    -------
    steps_S : int64 array (S,), falling, in [0, T)

    Raises
    ------
    TypeError, ValueError
        For an unknown spacing, or where the steps do not fit into [0, T).

    Examples
    --------
    >>> import numpy as np
    >>> from immref import schedules
    >>> steps_S = schedules.ddim_steps(1000, 4)
    >>> steps_S
    array([750, 500, 250,   0])
    >>> a, b = schedules.coefficients(np.append(schedules.alpha_bar("linear", 1000)[steps_S], 1.0))  # the image at the end
    """
    train_steps = check_int(train_steps, "train_steps", 1)
    steps = check_int(steps, "steps", 1, train_steps + 1)
    check_choice(spacing, "spacing", SPACINGS)
    steps_offset = check_int(steps_offset, "steps_offset", 0)
    if spacing != "leading" and steps_offset:
        raise ValueError(f"steps_offset must be 0 for spacing {spacing!r}, got {steps_offset!r}")
    if spacing == "linspace":
        check_int(steps, "steps (for spacing 'linspace', which holds both ends)", 2)
        return np.round(np.linspace(0, train_steps - 1, steps)).astype(np.int64)[::-1].copy()
    if spacing == "trailing":
        return np.round(train_steps * np.arange(steps, 0, -1) / steps).astype(np.int64) - 1
    first = (steps - 1) * (train_steps // steps) + steps_offset
    if first >= train_steps:
        raise ValueError(f"steps_offset must leave the first step below train_steps={train_steps}, got {steps_offset!r}: {first}")
    return np.arange(first, steps_offset - 1, -(train_steps // steps), dtype=np.int64)


def flow(t: Any) -> tuple[Any, Any]:
    """Flow matching's (a, b) of x_t = a x + b n at times t in [0, 1]; t = 0 is pure noise."""
    return t, 1 - t


def euler_times(steps: int) -> np.ndarray[Any, Any]:
    """The steps + 1 equally spaced times from noise (0) to data (1)."""
    return np.linspace(0.0, 1.0, check_int(steps, "steps", 1) + 1)


def karras_sigmas(levels: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> FloatArray:
    """N noise levels whose rho-th roots are evenly spaced, rising from sigma_min to sigma_max (Karras et al. 2022, Eq. 5).

    Parameters
    ----------
    levels : int N ≥ 2
    sigma_min, sigma_max : 0 < sigma_min < sigma_max
    rho : number > 0

    Returns
    -------
    sigma_N : array (N,), rising; both ends are held exactly. A sampler wants it reversed.

    Raises
    ------
    TypeError, ValueError
        For fewer than two levels, or levels that would not rise.
    """
    check_int(levels, "levels", 2)
    least, most, root = _positive(sigma_min, "sigma_min"), _positive(sigma_max, "sigma_max"), 1 / _positive(rho, "rho")
    if not least < most:
        raise ValueError(f"sigma_max must be > sigma_min, got sigma_min={least!r} and sigma_max={most!r}")
    sigma_N = np.linspace(least**root, most**root, levels) ** (1 / root)
    sigma_N[0], sigma_N[-1] = least, most
    return np.asarray(sigma_N)


def consistency_levels(step: int, train_steps: int, s0: int = 2, s1: int = 150) -> int:
    """Consistency training's N(k) = ceil(sqrt(k/K ((s1 + 1)² - s0²) + s0²) - 1) + 1 (Song et al. 2023, appendix C).

    Computed in whole numbers: no rounding decides where N rises.

    Parameters
    ----------
    step, train_steps : ints 0 ≤ k ≤ K, K ≥ 1
    s0, s1 : ints 2 ≤ s0 ≤ s1

    Returns
    -------
    int N, the noise levels at step k, from s0 to s1 + 1
    """
    train_steps, step, s0, s1 = _check_progress(train_steps, step, s0, s1)
    square = -(-(step * ((s1 + 1) ** 2 - s0**2) + train_steps * s0**2) // train_steps)  # rounded up: N is the least with N² ≥ it
    return math.isqrt(square - 1) + 1


def consistency_decay(levels: int, s0: int = 2, mu0: float = 0.9) -> float:
    """Consistency training's decay of the target network, mu(k) = exp(s0 ln(mu0) / N(k)) (Song et al. 2023, appendix C).

    N is the whole of `consistency_levels`, as the paper has it; the authors' code takes N - 1 here.

    Parameters
    ----------
    levels : int N ≥ 2
    s0 : int ≥ 2, as for `consistency_levels`
    mu0 : the decay at N = s0, in (0, 1)
    """
    check_int(levels, "levels", 2)
    check_int(s0, "s0", 2)
    if not _positive(mu0, "mu0") < 1:
        raise ValueError(f"mu0 must be in (0, 1), got {mu0!r}")
    return math.exp(s0 * math.log(mu0) / levels)


def doubling_levels(step: int, train_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Improved consistency training's N(k) = min(s0 2^floor(k/K'), s1) + 1 (Song & Dhariwal 2023).

    K' = floor(K / (log2(floor(s1/s0)) + 1)) steps pass before each doubling.

    Parameters
    ----------
    step, train_steps : ints 0 ≤ k ≤ K, K ≥ log2(floor(s1/s0)) + 1
    s0, s1 : ints 2 ≤ s0 ≤ s1

    Returns
    -------
    int N, the noise levels at step k, from s0 + 1 to s1 + 1
    """
    train_steps, step, s0, s1 = _check_progress(train_steps, step, s0, s1)
    stages = math.log2(s1 // s0) + 1
    if train_steps < stages:
        raise ValueError(f"train_steps must be ≥ {stages:g}, one for each doubling from s0={s0} to s1={s1}, got {train_steps!r}")
    return min(s0 << step // math.floor(train_steps / stages), s1) + 1


def _positive(value: Any, name: str) -> float:
    """Return `value` as a finite float > 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be finite and > 0, got {value!r}")
    return number


def _check_progress(train_steps: Any, step: Any, s0: Any, s1: Any) -> tuple[int, int, int, int]:
    """Return the four as ints with 0 ≤ step ≤ train_steps and 2 ≤ s0 ≤ s1."""
    train_steps = check_int(train_steps, "train_steps", 1)
    s0 = check_int(s0, "s0", 2)
    return train_steps, check_int(step, "step", 0, train_steps + 1), s0, check_int(s1, "s1", s0)
