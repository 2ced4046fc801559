"""`immref sample` on a folder that holds what a finished run leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file, save_file

from immref import ImageScaling
from immref_trainers import export, objectives, samplers, strict_json
from immref_trainers.config import Evaluation, Objective, Run, Sampler
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.sample import Settings, sample
from immref_trainers.samplers import priors

FACTS = {"shape": [3, 8, 8], "largest": 1.9, "low": -1.2, "high": 1.9, "classes": 3}
SMALL = UNet(block_out_channels=(8,), norm_num_groups=4)
FLOW = Run("r", network=SMALL, pairing=ImageScaling(2.0), evaluation=Evaluation(sampler_steps=(4, 2)))
DDIM = replace(FLOW, objective=Objective("ddpm", "v_prediction"), sampler=Sampler("ddim", clip_sample=True))
TOLD = replace(FLOW, network=replace(SMALL, class_conditional=True))


@pytest.fixture
def finished(tmp_path):
    """A function that writes the folder of a run."""

    def write(run, facts=FACTS, name="run"):
        folder = tmp_path / name
        export.export(run, unet.build(run.network, facts["shape"][0], 8, seed=1, classes=facts["classes"]), facts, folder)
        save_file(priors.fit_moment(1.5 + 0.5 * priors.gaussian((300, *facts["shape"]), 7)), folder / "prior.safetensors")
        (folder / "run.json").write_text(strict_json.to_json(run), encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(facts), encoding="utf-8")
        return folder

    return write


def sampled(folder, **settings):
    """The samples, and their labels where there are any."""
    output = sample(folder, Settings(output_dir=folder / "samples", **settings), "cpu", Console(quiet=True))
    found = load_file(output / "samples.safetensors")
    return found["samples"], found.get("labels")


def ours(folder, run, noise, steps, labels=None):
    """Samples of the folder's network by our sampler."""
    network = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True).eval()
    predict = objectives.build(run.objective, torch.empty(0)).predictor(network)
    told = None if labels is None else torch.tensor(labels)
    return samplers.sample(run, predict, torch.from_numpy(noise), steps, FACTS["largest"], told).numpy()


@pytest.mark.parametrize(("run", "steps"), [(FLOW, 3), (FLOW, 0), (DDIM, 3)], ids=["euler", "adaptive", "ddim"])
def test_samples_are_the_sampler_s_from_the_seed_s_noise(finished, run, steps):
    folder = finished(run)
    found, labels = sampled(folder, num_samples=5, steps=steps, seed=9)
    assert found.tolist() == ours(folder, run, priors.gaussian((5, 3, 8, 8), 9), steps).tolist()
    assert labels is None


def test_without_steps_the_most_that_the_run_was_judged_by_are_taken(finished):
    folder = finished(FLOW)
    assert sampled(folder, num_samples=2)[0].tolist() == ours(folder, FLOW, priors.gaussian((2, 3, 8, 8), 0), 4).tolist()


def test_the_moment_prior_is_the_run_s_own(finished):
    folder = finished(FLOW)
    noise = priors.moment(load_file(folder / "prior.safetensors"), priors.gaussian((6, 3, 8, 8), 0))
    assert noise.mean() == pytest.approx(1.5, abs=0.2)
    assert sampled(folder, num_samples=6, prior="moment")[0].tolist() == ours(folder, FLOW, noise, 4).tolist()


@pytest.mark.parametrize(("label", "wanted"), [(None, [0, 1, 2, 0, 1]), (0, [0] * 5), (2, [2] * 5)])
def test_a_class_conditional_run_is_asked_for_every_label_in_turn_or_for_one(finished, label, wanted):
    folder = finished(TOLD)
    found, labels = sampled(folder, num_samples=5, label=label)
    assert labels.tolist() == wanted
    assert found.tolist() == ours(folder, TOLD, priors.gaussian((5, 3, 8, 8), 0), 4, wanted).tolist()


@pytest.mark.parametrize(("low", "high"), [(-1.2, 1.9), (0.9, -0.4)], ids=["white is larger", "black is larger"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_samples_between_black_and_white(finished, channels, low, high):
    folder = finished(FLOW, FACTS | {"shape": [channels, 8, 8], "low": low, "high": high})
    found, _ = sampled(folder, num_samples=5)
    level = (found.astype(np.float64) - low) / (high - low) * 255
    pictures = [np.asarray(Image.open(folder / "samples" / f"{number:05}.png")) for number in range(5)]
    shown = np.stack(pictures).reshape(5, 8, 8, channels).transpose(0, 3, 1, 2)
    assert np.abs(shown - level.clip(0, 255)).max() <= 0.5 + 1e-9  # float64's rounding of a level
    assert 0 < shown.mean() < 255
    with Image.open(folder / "samples" / "grid.png") as grid:
        assert grid.size == (3 * 10, 2 * 10)  # 3 by 3 would leave a row empty
    assert len(list((folder / "samples").iterdir())) == 5 + 2


REFUSED = {
    "steps=-1": (FLOW, {"steps": -1}, r"steps must lie in \[1, inf\] for the euler sampler of this run, got -1"),
    "no adaptive ddim": (DDIM, {"steps": 0}, r"steps must lie in \[1, 1000\] for the ddim sampler of this run, got 0"),
    "too many": (DDIM, {"steps": 1001}, r"\[1, 1000\].*got 1001"),
    "told nothing": (FLOW, {"label": 0}, "label=0 needs a class-conditional run, and this one's network is told no labels"),
    "no such label": (TOLD, {"label": 3}, r"label must be in \[0, 3\), got 3"),
}


@pytest.mark.parametrize(("run", "settings", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_suit_the_run_is_refused_before_anything_is_made(finished, run, settings, words):
    folder = finished(run)
    with pytest.raises(UsageError, match=words):
        sampled(folder, **settings)
    assert not (folder / "samples").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_samples": 0}, "num_samples must be ≥ 1, got 0"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*63\), got -1"),
    ],
)
def test_a_setting_that_never_works_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Settings(**settings)


@pytest.mark.parametrize("name", ["run.json", "data.json", "prior.safetensors", "unet/diffusion_pytorch_model.safetensors"])
def test_a_folder_that_lacks_something_is_no_finished_run(finished, name):
    folder = finished(FLOW)
    (folder / name).unlink()
    with pytest.raises(UsageError, match=f"run is not the folder of a finished run: it lacks {name}$"):
        sampled(folder)


def test_the_folder_of_a_comparison_names_its_runs(finished):
    folder = finished(FLOW, name="compared/vanilla-seed0")
    (folder / "outcome.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"it lacks run\.json, .*; it holds the runs vanilla-seed0$"):
        sampled(folder.parent)


def test_a_record_that_cannot_be_read_is_named(finished):
    folder = finished(FLOW)
    (folder / "run.json").write_text(strict_json.to_json(FLOW).replace('"seed"', '"sede"'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"run cannot be read: run has an unknown key 'sede'.*did you mean 'seed'"):
        sampled(folder)


def test_samples_are_never_written_over_something(finished):
    folder = finished(FLOW)
    sampled(folder, num_samples=1)
    with pytest.raises(FileExistsError, match="output_dir must be a new or empty folder"):
        sampled(folder, num_samples=1)


def test_samples_that_are_not_finite_end_with_a_sentence(finished):
    folder = finished(FLOW)
    network = unet.build(SMALL, 3, 8, seed=1)
    torch.nn.init.constant_(network.conv_out.bias, torch.inf)
    network.save_pretrained(folder / "unet")
    with pytest.raises(TrainingError, match="run are not finite in 4 steps"):
        sampled(folder)
    assert not (folder / "samples").exists()
