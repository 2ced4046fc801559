"""A finished run's folder: diffusers and the card's program, where immref cannot be imported, make the images that our samplers make.

All programs run in one process, whose results are compared case by case.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from immref import KNN, ImageScaling, Vanilla
from immref_trainers import card, export, objectives, samplers
from immref_trainers.config import Consistency, Evaluation, Objective, Run, Sampler
from immref_trainers.data.settings import Directory
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.results import Dose, Environment, Nearness, Outcome, Point, Score

U = float(np.finfo(np.float32).eps)
SMALL = UNet(block_out_channels=(8,), norm_num_groups=4)
TOLD = UNet(block_out_channels=(8,), norm_num_groups=4, class_conditional=True)
RANGE = {"largest": 1.0, "low": -1.0, "high": 1.0, "prompts": []}
OWN = {"largest": 1.9, "low": -1.2, "high": 1.9, "prompts": []}
INK = {"largest": 0.9, "low": 0.9, "high": -0.4, "prompts": []}  # as the digits have it
CLASSES = 3
VANILLA = Vanilla()
COUNT, STEPS = 16, 10  # of the card's program


def flow(network=SMALL, pairing=VANILLA, steps=(3, STEPS)):
    return Run("r", Directory(), network, pairing=pairing, evaluation=Evaluation(sampler_steps=steps))


def ddim(prediction, spacing="leading", clip=False, schedule="linear", **more):
    return replace(flow(**more), objective=Objective("ddpm", prediction, beta_schedule=schedule), sampler=Sampler("ddim", spacing, clip))


def consistency(clip=False, **more):
    sampler, evaluation = Sampler("multistep", clip_sample=clip), Evaluation(sampler_steps=(2,))
    return replace(flow(**more), objective=Consistency(), sampler=sampler, evaluation=evaluation)


# the run, its images, and whether diffusers has a pipeline for it
CASES = {
    "colour": (ddim("v_prediction", pairing=KNN(k=4)), {"shape": [3, 8, 8], **RANGE}, True),
    "grey, clipped": (ddim("epsilon", clip=True), {"shape": [1, 8, 8], **RANGE}, True),
    "trailing cosine": (ddim("sample", "trailing", schedule="squaredcos_cap_v2"), {"shape": [3, 8, 8], **RANGE}, True),
    "own range": (ddim("v_prediction", "trailing", clip=True), {"shape": [3, 8, 8], **OWN}, False),
    "scaled": (ddim("v_prediction", pairing=ImageScaling(2.0), clip=True), {"shape": [3, 8, 8], **RANGE}, False),
    "classes": (ddim("v_prediction", network=TOLD), {"shape": [1, 8, 8], **RANGE}, False),
    "not square": (ddim("v_prediction"), {"shape": [1, 8, 12], **RANGE}, False),
    "consistency": (consistency(pairing=KNN(k=4)), {"shape": [3, 8, 8], **RANGE}, True),
    "consistency, clipped": (consistency(clip=True), {"shape": [1, 8, 8], **RANGE}, True),
    "consistency, scaled": (consistency(clip=True, pairing=ImageScaling(2.0)), {"shape": [1, 8, 8], **RANGE}, False),
    "consistency, classes": (consistency(network=TOLD), {"shape": [1, 8, 12], **OWN}, False),
    "flow": (flow(), {"shape": [3, 8, 8], **RANGE}, False),
    "flow, scaled": (flow(pairing=ImageScaling(2.0)), {"shape": [1, 8, 8], **INK}, False),
    "flow, classes": (flow(TOLD), {"shape": [1, 8, 8], **OWN}, False),
}

PROGRAM = """
import json, os, runpy, sys
sys.modules.update(immref=None, immref_trainers=None)
import numpy as np, torch
torch.set_num_threads(1)
for folder in json.loads(sys.argv[1]):
    os.chdir(folder)
    made = runpy.run_path("program.py")
    if "pipeline" in made:
        torch.manual_seed(0)
        levels = {"num_inference_steps": None, "timesteps": [24, 0]}
        how = levels if "Consistency" in type(made["pipeline"]).__name__ else {"num_inference_steps": 10}
        ready = made["pipeline"](batch_size=16, output_type="np", **how).images.transpose(0, 3, 1, 2)
        pixels = np.stack([np.asarray(image).reshape(*image.size[::-1], -1) for image in made["images"]]).transpose(0, 3, 1, 2)
        np.savez("made.npz", ready=ready, bytes=pixels)
    else:
        np.savez("made.npz", x=made["x"], bytes=made["pixels"])
"""


def network_of(run, facts):
    network = unet.build(run.network, facts["shape"][0], facts["shape"][1], seed=1, classes=CLASSES)
    return network.requires_grad_(False).eval()


def outcome_of(run):
    scores = {steps: Score(3.25 + steps, 4.5, 5.75) for steps in run.evaluation.sampler_steps}
    curve, nearest = [Point(run.max_train_steps, scores)], Nearness(3.0, 2.0, 0.25)
    return Outcome(run, curve, {"gaussian": scores, "moment": scores}, Dose(-0.0123, 0.987, 1.0, 10.0), nearest, None, None, 7.0)


ENVIRONMENT = Environment("cpu", "torch (torch 1.2.3): auto, for torch arrays", 1, "3.99.0", "a machine", {"immref": "9.8.7"})


def written(run, facts, folder):
    """The folder of a run that is given out as finished; return the sentence on the pipeline that is not there."""
    facts = facts | {"classes": CLASSES}
    reason = export.export(run, network_of(run, facts), facts, folder)
    card.write(outcome_of(run), "the features of a test", ENVIRONMENT, facts, reason, folder)
    return reason


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every case's folder by its name; the card's program ran in it, nothing but a seed before its own lines."""
    made = {name: tmp_path_factory.mktemp("run") for name in CASES}
    for name, (run, facts, _) in CASES.items():
        written(run, facts, made[name])
        program = re.search("```python\n(.*?)```", card_of(made[name]), re.DOTALL)[1]
        (made[name] / "program.py").write_text("import torch\ntorch.manual_seed(0)\n" + program, encoding="utf-8")
    argv = [sys.executable, "-c", PROGRAM, json.dumps([str(folder) for folder in made.values()])]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    return made


class Torch:
    """torch's random numbers, as the card's program and diffusers draw them."""

    def standard_normal(self, shape, dtype):
        return torch.randn(shape).numpy()


def ours(run, facts):
    """Our sampler's images, from the noise and with the labels of the card's program."""
    torch.manual_seed(0)
    noise = torch.randn(COUNT, *facts["shape"])
    predict = objectives.build(run.objective, noise, scale=run.pairing.scale).predictor(network_of(run, facts))
    labels = torch.arange(COUNT) % CLASSES if run.network.class_conditional else None
    steps = max(run.evaluation.sampler_steps)
    return samplers.sample(run, predict, noise, steps, facts["largest"], labels, Torch()).numpy()


def band(samples):
    """float32 rounds in every step, and diffusers multiplies up a thousand alphas in it; clipping holds what dividing by a_T enlarges."""
    return STEPS * 1000 * U * float(np.abs(samples).max())


@pytest.mark.parametrize("name", CASES)
def test_the_card_s_program_makes_our_sampler_s_images(folders, name):
    run, facts, pipeline = CASES[name]
    made, samples = np.load(folders[name] / "made.npz"), ours(run, facts)
    if pipeline:
        assert np.abs(made["ready"] - (samples / 2 + 0.5).clip(0, 1)).max() <= band(samples)
    else:
        assert np.abs(made["x"] - samples).max() <= band(samples)


@pytest.mark.parametrize("name", CASES)
def test_its_pictures_are_black_and_white_where_the_data_are(folders, name):
    """Half a level is rounding; most cases have something to clip and all have pixels between."""
    run, facts, _ = CASES[name]
    level = (ours(run, facts) - facts["low"]) / (facts["high"] - facts["low"]) * 255
    made = np.load(folders[name] / "made.npz")["bytes"].astype(float)
    assert np.abs(made - level.clip(0, 255)).max() <= 0.5 + band(level)
    assert np.mean((made > 0) & (made < 255)) > 0.05


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_is_there_where_diffusers_can_make_these_images(folders, name):
    run, _, pipeline = CASES[name]
    assert (folders[name] / "model_index.json").exists() == pipeline
    assert (folders[name] / "scheduler").exists() == (run.objective.method != "flow")
    assert ("Pipeline.from_pretrained" in card_of(folders[name])) == pipeline


REASONS = {
    "flow": "no pipeline is exported, network alone: diffusers has no unconditional pipeline for flow matching",
    "classes": "network and scheduler alone: DDIMPipeline asks for no class",
    "scaled": "DDIMPipeline would not undo the image scaling of 2",
    "own range": "DDIMPipeline takes black and white to be -1 and 1, and here they are -1.2 and 1.9",
    "consistency, scaled": "ConsistencyModelPipeline would not undo the image scaling of 2",
    "consistency, classes": "ConsistencyModelPipeline takes black and white to be -1 and 1",
    "not square": "DDIMPipeline makes squares, and here images are 8×12",
}


@pytest.mark.parametrize("name", REASONS)
def test_why_there_is_no_pipeline_is_told_by_the_card_too(folders, tmp_path, name):
    reason = written(*CASES[name][:2], tmp_path)
    assert REASONS[name] in reason
    assert reason[1:] in card_of(folders[name])


def test_linspace_has_no_pipeline():
    assert "linspace" in export.obstacle(ddim("epsilon", "linspace"), CASES["colour"][1])


def test_the_scheduler_is_the_run_s_sampler(folders):
    kept = json.loads((folders["scaled"] / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    wanted = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "timestep_spacing": "leading", "steps_offset": 0}
    wanted |= {"clip_sample": True, "clip_sample_range": 2.0, "set_alpha_to_one": True, "beta_schedule": "linear", "thresholding": False}
    assert {name: kept[name] for name in wanted} == wanted


def test_the_card_tells_what_the_run_was(folders):
    text = card_of(folders["colour"])
    head = yaml.safe_load(text.split("---")[1])
    assert head == {"library_name": "diffusers", "tags": ["ddpm", "immiscible-diffusion"]}
    for words in (
        *("KNN k=4", "seed 0", "1,200 steps", "directory", "3×8×8", "-1.23%", "0.987", "| gaussian | 10 steps | 13.250 |"),
        *("the features of a test", "1,500 samples", "1.50 times as far", "immref train r", "torch 1.2.3", "3.99.0", "immref 9.8.7"),
    ):
        assert words in text


def test_a_run_judged_by_the_adaptive_solver_alone_is_sampled_by_euler_in_its_card():
    run, facts = flow(steps=(0,)), CASES["flow"][1]
    assert f"steps = {card.INSTEAD_OF_ADAPTIVE}\n" in card.code(run, facts, "a reason")
