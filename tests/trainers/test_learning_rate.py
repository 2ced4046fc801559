"""The learning rate of every step against diffusers' schedules."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from immref_trainers import learning_rate
from immref_trainers.config import Optimizer

NAMES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


@pytest.mark.parametrize("warm_up", [0, 1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_every_step_has_the_rate_of_diffusers_schedule(name, warm_up):
    settings, total = Optimizer(learning_rate=3e-4, lr_scheduler=name, lr_warmup_steps=warm_up), 40
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 3e-4)
    scheduler = get_scheduler(NAMES[name], optimizer, num_warmup_steps=warm_up, num_training_steps=total)
    for step in range(total):
        assert learning_rate.at(settings, step, total) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12, abs=1e-18)
        optimizer.step()
        scheduler.step()
