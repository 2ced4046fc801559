"""Latents kept on disk: the same as those in memory, and never another data set's, another VAE's or damaged ones."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from console import command
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from immref_trainers import spaces
from immref_trainers.errors import UsageError
from immref_trainers.loop import Trainer
from immref_trainers.stable_diffusion import posteriors
from immref_trainers.stable_diffusion.latents import Latents

CPU = torch.device("cpu")
FILE = "train/latents-00003.safetensors"


@pytest.fixture(name="cached")
def cached_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(posteriors, "SHARD", 256)
    return replace(run, network=replace(run.network, latent_cache=str(tmp_path / "cache")))


def test_training_with_the_cache_is_training_without(digits, run, cached, accelerator):
    losses = [[step.loss for step in Trainer(kind, digits, accelerator).steps()] for kind in (run, cached, cached)]
    assert losses[0] == losses[1] == losses[2]


def test_images_are_encoded_once_and_what_an_interruption_left_is_gone_on_with(digits, cached, tmp_path, monkeypatch):
    seen, encoded = [], Latents.encoded
    monkeypatch.setattr(Latents, "encoded", lambda self, index_B, *rest: seen.append(len(index_B)) or encoded(self, index_B, *rest))
    first = spaces.of_run(cached, digits, CPU).train.images(np.arange(1000))
    whole = len(digits.train) + len(digits.held_out)
    assert sum(seen) == whole
    assert len(list((tmp_path / "cache" / "train").iterdir())) == -(-len(digits.train) // 256)
    seen.clear()
    (tmp_path / "cache" / FILE).unlink()
    again = spaces.of_run(cached, digits, CPU).train.images(np.arange(1000))
    assert seen == [posteriors.SAMPLED - 6, 256, posteriors.SAMPLED]
    assert np.array_equal(first, again)


def test_a_shard_that_crashed_halfway_is_not_there(digits, cached, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(posteriors.arrays, "save", full)
    with pytest.raises(OSError, match="No space"):
        spaces.of_run(cached, digits, CPU)
    assert not list((tmp_path / "cache" / "train").glob("*.safetensors"))


def changed(file):
    """One number is another, and the file otherwise whole."""
    with safe_open(file, framework="pt") as shard:
        facts = shard.metadata()
    tensors = load_file(file)
    tensors["std"][17, 0, 0, 0] += 1
    save_file(tensors, file, facts)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(("spoil", "words"), [(changed, "is not as it was written"), (cut, "cannot be read")])
def test_a_damaged_shard_is_named(digits, cached, tmp_path, spoil, words):
    spaces.of_run(cached, digits, CPU)
    spoil(tmp_path / "cache" / FILE)
    with pytest.raises(UsageError, match=rf"network.latent_cache: .*{FILE} {words}.*; delete it, and it is made again"):
        spaces.of_run(cached, digits, CPU)


def test_another_data_set_s_latents_are_refused(digits, cached):
    spaces.of_run(cached, digits, CPU)
    reversed_ = replace(digits, train=replace(digits.train, x=digits.train.x[::-1]))
    with pytest.raises(UsageError, match=r"must hold the latents of these images by this VAE, and image 0 differs; delete it"):
        spaces.of_run(cached, reversed_, CPU)
    fewer = replace(digits, train=replace(digits.train, x=digits.train.x[:1400], y=digits.train.y[:1400]))
    with pytest.raises(UsageError, match=r"holds latents of 1,500 images and not of 1,400; delete it, or pass another directory"):
        spaces.of_run(cached, fewer, CPU)
    larger = replace(digits, train=replace(digits.train, x=digits.train.x.repeat(2, axis=2).repeat(2, axis=3)))
    with pytest.raises(UsageError, match=r"and a latent is 4×8×8 and not 4×16×16; delete it"):
        spaces.of_run(cached, larger, CPU)


def test_another_vae_s_latents_are_refused(digits, cached, made, tmp_path):
    spaces.of_run(cached, digits, CPU)
    other = tmp_path / "other"
    shutil.copytree(made, other)
    file = other / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.05 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(UsageError, match="by this VAE, and image 0 differs"):
        spaces.of_run(replace(cached, network=replace(cached.network, pipeline=str(other))), digits, CPU)


def test_images_that_change_from_epoch_to_epoch_cannot_be_cached(tmp_path, monkeypatch, capsys, made):
    (tmp_path / "data" / "one").mkdir(parents=True)
    for number in range(8):
        Image.fromarray(np.full((16, 16, 3), 30 * number, dtype=np.uint8)).save(tmp_path / "data" / "one" / f"{number}.png")
    settings = ("--data.train-data-dir", tmp_path / "data", "--data.resolution", 16, "--data.random-flip", "--data.held-out", 2)
    argv = (
        "train",
        "imagenet-sd-scratch",
        "--mixed-precision",
        "no",
        "--pipeline",
        made,
        *settings,
        "--network.latent-cache",
        tmp_path / "cache",
    )
    assert command(monkeypatch, *argv, "--output-dir", tmp_path / "run") == 2
    assert "network.latent_cache needs images that every epoch sees alike" in capsys.readouterr().err
