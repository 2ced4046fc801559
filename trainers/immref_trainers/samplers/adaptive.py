"""The adaptive solver of flow matching's baseline: torchdiffeq's dopri5 along the learned velocity, from noise to data."""

import torch
from torch import Tensor

from immref_trainers.errors import TrainingError
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers.chunks import chunks

TOLERANCE = 1e-5  # absolute and relative, as the baseline has it


@torch.inference_mode()
def sample(predict: Predictor, noise: Tensor, scale: float, labels: Tensor | None = None) -> Tensor:
    """Samples (M, ...) on the host, the image scaling undone; parameters as in `euler.sample`.

    The solver chooses its steps for all the samples that a network sees at once.
    """
    try:
        from torchdiffeq import odeint
    except ModuleNotFoundError:
        raise TrainingError("adaptive steps, 0 in evaluation.sampler_steps, need torchdiffeq: pip install 'immref[train]'") from None

    samples = []
    for x, labels_B in chunks(noise, labels):

        def velocity(t: Tensor, x_t: Tensor, labels_B: Tensor | None = labels_B) -> Tensor:
            return predict(x_t, t.to(x_t.dtype).expand(len(x_t)), labels_B)

        ends = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
        stop_at_the_end = {"step_t": ends[1:]}  # by itself the solver goes past it, where no network was trained, and interpolates
        path = odeint(velocity, x, ends, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5", options=stop_at_the_end)
        samples.append((path[-1] / scale).cpu())
    return torch.cat(samples)
