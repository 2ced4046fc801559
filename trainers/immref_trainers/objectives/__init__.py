"""What a network learns: one file per objective."""

from torch import Tensor

from immref_trainers.config import Consistency, Objective
from immref_trainers.objectives import consistency, ddpm, flow
from immref_trainers.objectives.regression import Learned


def build(settings: Objective | Consistency, like: Tensor, train_steps: int = 1, scale: float = 1.0) -> Learned:
    """The objective that `settings` choose, in the dtype and on the device of `like`.

    Consistency training alone goes by `train_steps`, over which its noise levels multiply, and by the image `scale`.
    """
    if isinstance(settings, Consistency):
        return consistency.training(settings, train_steps, scale, like)
    return ddpm.regression(settings, like) if settings.method == "ddpm" else flow.FLOW
