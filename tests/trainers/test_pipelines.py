"""Pipelines that cannot be trained in, and settings that do not go with one: a sentence each; weights in half precision."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from console import command
from diffusers import StableDiffusionPipeline

from immref_trainers import recipes, spaces
from immref_trainers.config import Sampler
from immref_trainers.errors import TrainingError
from immref_trainers.networks.settings import TextUNet

CPU = torch.device("cpu")


def lacking(folder):
    shutil.rmtree(folder / "tokenizer")


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def weightless(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()


def halved(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")


def settings(part, **changes):
    def spoil(folder):
        file = folder / part
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "network.pipeline: pass a local directory, .* does not exist; names on the Hub are not downloaded"),
        (lacking, "network.pipeline must hold a Stable Diffusion pipeline as diffusers saves it, .* lacks tokenizer"),
        (
            pickled,
            r"network.pipeline must have its weights as safetensors, .*, .*unet has diffusion_pytorch_model.bin, a pickle; save it anew",
        ),
        (weightless, "weights as safetensors, no variant such as fp16, .*vae has none"),
        (halved, r"weights as safetensors, no variant such as fp16, .*vae has diffusion_pytorch_model.fp16.safetensors alone"),
        (settings("unet/config.json", in_channels=9), "the unet's in_channels is 9, and the vae gives 4"),
        (settings("unet/config.json", cross_attention_dim=768), "the unet's cross_attention_dim is 768, and the text_encoder gives 64"),
    ],
)
def test_a_directory_that_is_no_pipeline_is_refused(made, digits, run, tmp_path, spoil, words):
    shutil.copytree(made, tmp_path / "copy")
    spoil(tmp_path / "copy")
    with pytest.raises(ValueError, match=words):
        spaces.of_run(replace(run, network=replace(run.network, pipeline=str(tmp_path / "copy"))), digits, CPU)


@pytest.mark.parametrize("changes", [{"prediction_type": "v_prediction"}, {"beta_end": 0.02}, {"num_train_timesteps": 500}], ids=str)
def test_fine_tuning_on_another_objective_is_refused(made, digits, run, tmp_path, changes):
    shutil.copytree(made, tmp_path / "copy")
    settings("scheduler/scheduler_config.json", **changes)(tmp_path / "copy")
    network = replace(run.network, pipeline=str(tmp_path / "copy"))
    spaces.check(replace(run, network=network), digits)
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"objective must be that of the pretrained unet, whose {name} in .*scheduler is {value}, got "):
        spaces.check(replace(run, network=replace(network, weights="pretrained")), digits)


def test_half_precision_is_trained_on_in_float32(made, digits, run, tmp_path):
    StableDiffusionPipeline.from_pretrained(made).to(torch.float16).save_pretrained(tmp_path / "half")
    network = replace(run.network, pipeline=str(tmp_path / "half"), weights="pretrained")
    space = spaces.of_run(replace(run, network=network), digits, CPU)
    for part in (space.network(), space.parts.vae, space.parts.text_encoder):
        assert {weight.dtype for weight in part.parameters()} == {torch.float32}


def test_latents_that_are_not_finite_name_their_image(digits, run):
    x = digits.train.x.copy()
    x[7] = np.nan
    with pytest.raises(TrainingError, match=r"latents of image 7 are not finite: the VAE in .* cannot encode it"):
        spaces.of_run(run, replace(digits, train=replace(digits.train, x=x)), CPU).train.images(np.arange(12))


def test_the_command_line_says_it_in_a_sentence(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "train", "digits-sd", "--pipeline", tmp_path / "none", "--output-dir", tmp_path / "run") == 2
    assert capsys.readouterr().err.startswith("immref: network.pipeline: pass a local directory,")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low": -0.9}, r"takes images of 3 channels in \[-1, 1\], got 3 in \[-0.9, 1\]"),
        ({"names": ()}, "network.prompt needs images whose labels have names, and these have none"),
    ],
)
def test_images_that_do_not_go_with_it_are_refused(digits, run, changes, words):
    with pytest.raises(ValueError, match=words):
        spaces.of_run(run, replace(digits, **changes), CPU)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TextUNet(prompt="a digit"), "network.prompt must have one {}, in place of the name, got 'a digit'"),
        (lambda: TextUNet(weights="frozen"), "network.weights must be one of random, pretrained, got 'frozen'"),
        (lambda: TextUNet(caption_dropout=1.0), r"network.caption_dropout must be in \[0, 1\), got 1.0"),
        (lambda: Sampler("ddim", guidance_scale=0.5), "sampler.guidance_scale must be finite and ≥ 1, got 0.5"),
        (lambda: Sampler(guidance_scale=2.0), "sampler.guidance_scale=2.0 needs sampler.method 'ddim'"),
        (
            lambda: replace(recipes.find("digits-ddim").run(), sampler=Sampler("ddim", guidance_scale=2.0)),
            "sampler.guidance_scale=2.0 needs a network told in words",
        ),
        (
            lambda: replace(recipes.find("digits-flow").run(), network=TextUNet()),
            "objective.method must be ddpm for a network told in words",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
