"""The optimal denoiser under KNN pairing in closed form: a network's limit, without a network (NumPy and SciPy, host).

For a finite data set and k candidates the chosen noise has the density
p(n | x_i) = k φ(n) S_i(|n - x_i|²)^(k - 1), with φ the standard normal density and S_i the survival function
of the noncentral chi-square with D degrees of freedom and noncentrality |x_i|². At z = a x + b n this gives
E[x | z] = Σ w_i x_i with w_i ∝ p(n_i | x_i) and n_i = (z - a x_i) / b; k = 1 is vanilla training.
The field memorises its data: it shows direction and bias, not learning speed.

Shape suffixes: N data, M points, D numbers per image.
"""

from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.special import softmax
from scipy.stats import ncx2

from immref import schedules
from immref._checks import check_int
from immref.diffusion import velocity_from_data

FloatArray = np.ndarray[Any, Any]

SMALLEST_SURVIVAL = -600.0  # ln S, before SciPy underflows; a noise further out has no weight under any datum


class ExactField:
    """The exact denoiser of a finite data set for noise chosen as the nearest of k.

    Parameters
    ----------
    data_ND : array (N, D), finite
        Images as the model sees them: flattened, normalised and, under image scaling, scaled.
    k : int ≥ 1
        Candidates of KNN selection; 1 is vanilla.

    Examples
    --------
    >>> import numpy as np
    >>> from immref.exact import ExactField
    >>> field = ExactField(np.asarray([[1.0, 0.0], [-1.0, 0.0]]), k=4)
    >>> field.denoise(np.asarray([[0.0, 0.5]]), a=0.5, b=0.5)  # halfway between the two: their mean
    array([[0., 0.]])
    """

    def __init__(self, data_ND: FloatArray, k: int = 1) -> None:
        self.data_ND = np.asarray(data_ND, dtype=np.float64)
        if self.data_ND.ndim != 2 or 0 in self.data_ND.shape or not np.isfinite(self.data_ND).all():
            raise ValueError(
                f"data_ND must be a finite array (N, D) with at least one row, got shape {self.data_ND.shape} or a NaN or infinity"
            )
        self.k = check_int(k, "k", 1)
        self.square_N = np.einsum("nd,nd->n", self.data_ND, self.data_ND)
        self.survival = survival_table(self.square_N, self.data_ND.shape[1]) if self.k > 1 else None

    def weights(self, z_MD: FloatArray, a: float, b: float) -> FloatArray:
        """Posterior probability (M, N) of each datum at z = a x + b n, for b > 0."""
        zz_M1 = np.einsum("md,md->m", z_MD, z_MD)[:, None]
        zx_MN = z_MD @ self.data_ND.T
        # n = (z - a x) / b; n - x = (z - (a + b) x) / b
        noise_MN = (zz_M1 - 2 * a * zx_MN + a**2 * self.square_N) / b**2
        log_MN = -0.5 * noise_MN
        if self.survival is not None:
            radius_MN = np.sqrt(np.maximum(zz_M1 - 2 * (a + b) * zx_MN + (a + b) ** 2 * self.square_N, 0)) / b
            log_MN += (self.k - 1) * log_survival(self.survival, self.square_N, radius_MN)
        return np.asarray(softmax(log_MN, axis=1))

    def denoise(self, z_MD: FloatArray, a: float, b: float) -> FloatArray:
        """E[x | z], shape (M, D), at z = a x + b n."""
        return self.weights(z_MD, a, b) @ self.data_ND

    def sample(self, noise_MD: FloatArray, steps: int) -> list[FloatArray]:
        """Flow matching's exact field followed from `noise_MD` by Euler steps; the states at all steps + 1 times."""
        states = [np.asarray(noise_MD, dtype=np.float64)]
        times = schedules.euler_times(check_int(steps, "steps", 1))
        for t, end in zip(times[:-1], times[1:], strict=True):
            speed = velocity_from_data(states[-1], self.denoise(states[-1], *schedules.flow(t)), t)
            states.append(states[-1] + (end - t) * speed)
        return states


def survival_table(square_N: FloatArray, dimension: int) -> RectBivariateSpline:
    """ln S as a spline in (|x|, radius): 40 × 300 evaluations of SciPy's ncx2 stand for the millions a sampler asks."""
    norm = np.linspace(np.sqrt(square_N.min()) - 1e-3, np.sqrt(square_N.max()) + 1e-3, 40)
    reach = np.linspace(0.0, norm[0] + np.sqrt(dimension) + np.sqrt(-2 * SMALLEST_SURVIVAL), 4000)
    largest = reach[ncx2.logsf(reach**2, dimension, max(norm[0], 0) ** 2) > SMALLEST_SURVIVAL].max()
    radius = np.linspace(0.0, largest, 300)
    log_survival = ncx2.logsf(radius[None, :] ** 2, dimension, np.maximum(norm[:, None], 0) ** 2)
    return RectBivariateSpline(norm, radius, log_survival)


def log_survival(table: RectBivariateSpline, square_N: FloatArray, radius_MN: FloatArray) -> FloatArray:
    """ln S_i(radius²) from the table, held constant beyond its edge."""
    norm_MN = np.broadcast_to(np.sqrt(square_N), radius_MN.shape)
    return np.asarray(np.minimum(table.ev(norm_MN, np.minimum(radius_MN, table.get_knots()[1][-1])), 0.0))
