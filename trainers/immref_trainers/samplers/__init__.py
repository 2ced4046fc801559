"""From a trained network to samples: one file per sampler, and the noise that it starts from."""

from torch import Tensor

from immref_trainers.config import Run
from immref_trainers.objectives.regression import Predictor
from immref_trainers.samplers import adaptive, ddim, euler


def sample(run: Run, predict: Predictor, noise: Tensor, steps: int, largest: float, labels: Tensor | None = None) -> Tensor:
    """Samples (M, ...) on the host by the sampler of `run`, the image scaling undone.

    Parameters
    ----------
    steps : of the sampler; 0 is the adaptive solver of flow matching
    largest : the data's largest absolute value
    labels : of the samples (M,), where the network is told any
    """
    if run.sampler.method == "ddim":
        return ddim.sample(predict, noise, steps, run, largest, labels)
    if steps == 0:
        return adaptive.sample(predict, noise, run.pairing.scale, labels)
    return euler.sample(predict, noise, steps, run.pairing.scale, labels)
