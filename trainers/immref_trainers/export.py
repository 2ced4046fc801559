"""A finished run as a folder that diffusers opens without this package."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
from diffusers import CMStochasticIterativeScheduler, DDIMScheduler, DDPMScheduler

from immref_trainers.config import LADDER, Consistency, Run
from immref_trainers.networks.settings import TextUNet

Facts = dict[str, Any]  # of data.json


def export(run: Run, network: Any, facts: Facts, folder: Path) -> str | None:
    """Write `unet/`, but for flow `scheduler/`, and `model_index.json` where diffusers' pipeline can sample; else return why it cannot.

    Parameters
    ----------
    network : the averaged UNet2DModel
    facts : {shape: [C, H, W], largest, low, high, classes}, the values that are black and white among them
    """
    network.save_pretrained(folder / "unet")
    if run.objective.method != "flow":
        scheduler(run, facts).save_pretrained(folder / "scheduler")
    if reason := obstacle(run, facts):
        return f"no pipeline is exported, {'network' if run.objective.method == 'flow' else 'network and scheduler'} alone: {reason}"
    index = {
        "_class_name": pipeline(run),
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", type(scheduler(run, facts)).__name__],
        "unet": ["diffusers", "UNet2DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return None


def pipeline(run: Run) -> str:
    """diffusers' pipeline for networks of this kind."""
    return "ConsistencyModelPipeline" if isinstance(run.objective, Consistency) else "DDIMPipeline"


def scheduler(run: Run, facts: Facts) -> DDIMScheduler | DDPMScheduler | CMStochasticIterativeScheduler:
    """diffusers' form of the run's sampler; DDIM's is the same in numbers of steps that divide num_train_timesteps, never with linspace."""
    objective, sampler = run.objective, run.sampler
    if isinstance(objective, Consistency):
        return CMStochasticIterativeScheduler(
            num_train_timesteps=LADDER,
            sigma_min=objective.sigma_min,
            sigma_max=objective.sigma_max,
            sigma_data=run.pairing.scale * objective.sigma_data,
            clip_denoised=sampler.clip_sample and run.pairing.scale * facts["largest"] == 1,  # it clips at 1 alone
        )
    betas = {} if objective.beta_schedule == "squaredcos_cap_v2" else {"beta_start": objective.beta_start, "beta_end": objective.beta_end}
    kind = (
        partial(DDPMScheduler, variance_type="fixed_small") if sampler.method == "ddpm" else partial(DDIMScheduler, set_alpha_to_one=True)
    )
    return kind(
        num_train_timesteps=objective.num_train_timesteps,
        beta_schedule=objective.beta_schedule,
        prediction_type=objective.prediction,
        timestep_spacing=sampler.timestep_spacing,
        clip_sample=sampler.clip_sample,
        clip_sample_range=run.pairing.scale * facts["largest"],
        steps_offset=int(isinstance(run.network, TextUNet)),  # with other spacings than leading it has no effect, and the pipeline wants 1
        **betas,
    )


def obstacle(run: Run, facts: Facts) -> str | None:
    """Why diffusers' pipeline would not make this run's images; None where it does."""
    name = pipeline(run)
    if run.objective.method == "flow":
        return "diffusers has no unconditional pipeline for flow matching, and its schedulers for it expect the opposite velocity"
    if run.sampler.timestep_spacing == "linspace":
        return "with linspace spacing diffusers' DDIM steps past the times that it visits, so that its images differ"
    if run.network.class_conditional and name == "DDIMPipeline":
        return "DDIMPipeline asks for no class"
    if run.pairing.scale != 1:
        return f"{name} would not undo the image scaling of {run.pairing.scale:g}"
    if (facts["low"], facts["high"]) != (-1.0, 1.0):
        return f"{name} takes black and white to be -1 and 1, and here they are {facts['low']:.3g} and {facts['high']:.3g}"
    _, height, width = facts["shape"]
    if height != width:
        return f"{name} makes squares, and here images are {height}×{width}"
    return None
