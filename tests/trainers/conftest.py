"""What the trainers' tests share: the CPU, the digits, and a run small enough for seconds."""

import datasets
import pytest
import torch
from accelerate import Accelerator

from immref import dispatch
from immref_trainers.config import Evaluation, Run, UNet
from immref_trainers.data import digits
from immref_trainers.data.settings import Digits


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """On the CPU, on the backend that `auto` finds; whatever a command sets is undone after the test."""
    monkeypatch.setenv(dispatch.VARIABLE, "auto")
    monkeypatch.setenv(dispatch.DEVICE_VARIABLE, "cpu")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are no faster on more, and sums come out in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture(scope="session")
def images():
    return digits.load(Digits())


@pytest.fixture(scope="session")
def tiny():
    return Run(
        recipe="digits-flow",
        network=UNet(block_out_channels=(8,), norm_num_groups=4),
        evaluation=Evaluation(at_steps=(12,), sampler_steps=(1, 2), num_samples=48),
        train_batch_size=64,
        max_train_steps=12,
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is kept outside the test's folder, announced to a server or drawn as a bar."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
