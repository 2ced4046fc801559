"""From a trained network to samples: one file per sampler, and the noise that it starts from."""

from torch import Tensor

from immref_trainers.config import Run
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers import ddim, euler


def sample(run: Run, predict: Predictor, noise: Tensor, steps: int, largest: float) -> Tensor:
    """Samples (M, ...) on the host by the sampler of `run`, the image scaling undone; `largest` is the data's largest absolute value."""
    if run.sampler.method == "ddim":
        return ddim.sample(predict, noise, steps, run, largest)
    return euler.sample(predict, noise, steps, run.pairing.scale)
