"""What the trainers' tests share: the CPU, the digits, and a run small enough for seconds."""

from dataclasses import replace

import datasets
import pytest
import torch
from accelerate import Accelerator

from immref import dispatch
from immref_trainers import recipes
from immref_trainers.config import Evaluation, Run
from immref_trainers.data import captioned, digits
from immref_trainers.data.settings import CaptionedDigits, Digits
from immref_trainers.networks.settings import TextUNet, UNet


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


@pytest.fixture(scope="session", name="digits")
def captioned_digits():
    """Those that Stable Diffusion in small is trained on."""
    return captioned.load(CaptionedDigits())


@pytest.fixture(scope="session")
def made(tmp_path_factory, digits):
    """The digits' pipeline, fitted for a moment."""
    from immref_trainers.stable_diffusion import offline

    folder = tmp_path_factory.mktemp("pipeline") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline, "CLIP", offline.CLIP._replace(steps=4))
        patch.setattr(offline, "VAE", offline.VAE._replace(steps=12))
        offline.make(folder, digits, [f"a photo of the digit {name}" for name in digits.names], lambda *_: None)
    return folder


@pytest.fixture(name="run")
def small_stable_diffusion(made):
    """Three steps of digits-sd."""
    return replace(
        recipes.find("digits-sd").run(),
        network=TextUNet(pipeline=str(made), prompt="a photo of the digit {}", caption_dropout=0.2),
        evaluation=Evaluation(at_steps=(3,), sampler_steps=(3,), num_samples=8),
        train_batch_size=16,
        max_train_steps=3,
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is kept outside the test's folder, announced to a server or drawn as a bar."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
