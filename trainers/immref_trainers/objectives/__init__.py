"""What a network learns: one file per objective."""

from torch import Tensor

from immref_trainers.config import Objective
from immref_trainers.objectives import ddpm, flow
from immref_trainers.objectives.regression import Regression


def build(settings: Objective, like: Tensor) -> Regression:
    """The objective that `settings` choose, for images in the dtype and on the device of `like`."""
    return ddpm.regression(settings, like) if settings.method == "ddpm" else flow.FLOW
