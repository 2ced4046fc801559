"""The model card: `README.md` of a finished run's folder, with a way to sample that needs nothing of ours."""

from pathlib import Path
from typing import Any

from immref_trainers.config import Run, run_name
from immref_trainers.networks.settings import TextUNet
from immref_trainers.results import Environment, Outcome, counted

INSTEAD_OF_ADAPTIVE = 100  # Euler steps in the card of a run that was judged by the adaptive solver alone

CODE = {
    "pipeline": """\
from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained(".")
images = pipeline(batch_size=16, num_inference_steps={steps}).images
images[0].save("sample.png")
""",
    "ddim": """\
import torch
from diffusers import DDIMScheduler, UNet2DModel

network, scheduler = UNet2DModel.from_pretrained("unet"), DDIMScheduler.from_pretrained("scheduler")
torch.manual_seed(0)
x = torch.randn(16, {channels}, {height}, {width}){labels}
scheduler.set_timesteps({steps})
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t{argument}).sample, t, x).prev_sample
x = x / {scale}  # the image scaling undone
pixels = ((x - {low}) * 255 / ({high} - {low})).round().clamp(0, 255).byte()
""",
    "consistency": """\
from diffusers import ConsistencyModelPipeline

pipeline = ConsistencyModelPipeline.from_pretrained(".")
images = pipeline(batch_size=16, num_inference_steps=None, timesteps={timesteps}).images
images[0].save("sample.png")
""",
    "multistep": """\
import torch
from diffusers import CMStochasticIterativeScheduler, UNet2DModel

network, scheduler = UNet2DModel.from_pretrained("unet"), CMStochasticIterativeScheduler.from_pretrained("scheduler")
torch.manual_seed(0)
scheduler.set_timesteps(timesteps={timesteps})
x, least = torch.zeros(16, {channels}, {height}, {width}), 0.0{labels}
with torch.no_grad():
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas):  # noise is added, and the network goes to the image at once
        x = x + (sigma**2 - least**2) ** 0.5 * torch.randn(x.shape)
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(sigma)
        x = c_skip * x + c_out * network(x / (sigma**2 + scheduler.config.sigma_data**2) ** 0.5, t{argument}).sample{clip}
        least = scheduler.config.sigma_min
x = x / {scale}  # the image scaling undone
pixels = ((x - {low}) * 255 / ({high} - {low})).round().clamp(0, 255).byte()
""",
    "words": """\
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained(".")
images = pipeline([{prompt!r}] * 4, num_inference_steps={steps}, guidance_scale={guidance}).images
images[0].save("sample.png")
""",
    "flow": """\
import torch
from diffusers import UNet2DModel

network = UNet2DModel.from_pretrained("unet")
torch.manual_seed(0)
x = torch.randn(16, {channels}, {height}, {width}){labels}
steps = {steps}
with torch.no_grad():
    for step in range(steps):  # Euler, from noise (t = 0) to data (t = 1); the network's time is 1000 t
        t = torch.full((len(x),), 1000.0 * step / steps)
        x = x + network(x, t{argument}).sample / steps
x = x / {scale}  # the image scaling undone
pixels = ((x - {low}) * 255 / ({high} - {low})).round().clamp(0, 255).byte()
""",
}


def write(outcome: Outcome, features: str, environment: Environment, facts: dict[str, Any], reason: str | None, folder: Path) -> None:
    """Write the card; `reason` says why there is no pipeline, `facts` are those of data.json."""
    run, dose = outcome.run, outcome.dose
    scores = [
        f"| {prior} | {counted(steps)} | {score.fd:.3f} |"
        for prior, by_steps in outcome.priors.items()
        for steps, score in by_steps.items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in environment.versions.items())
    text = f"""\
---
library_name: diffusers
tags: [{run.objective.method}, immiscible-diffusion]
---

# {run_name(run)}, recipe {run.recipe}

A diffusion network trained for {run.max_train_steps:,} steps with noise paired by **{run.pairing}**
([Improved Immiscible Diffusion](https://arxiv.org/abs/2505.18521)), seed {run.seed}, on {run.data.dataset_name} of
{"×".join(map(str, facts["shape"]))}. Pairing changed the mean image-noise distance by {dose.distance_drop:+.2%}; E n² of the noise was
{dose.mean_square:.3f}. The weights are the moving average.

| sampled from | steps | Fréchet distance |
|---|---|---|
{chr(10).join(scores)}

Lower is better: {features}, {run.evaluation.num_samples:,} samples, {run.evaluation.draws} times. The median sample is
{outcome.nearest.ratio:.2f} times as far from its nearest training image as unseen images are.

## Sampling

{f"{reason[0].upper()}{reason[1:]}." if reason else "It opens in diffusers:"}

```python
{code(run, facts, reason)}```

Made by `immref train {run.recipe}` with the settings in `run.json`; {environment.backend}; {environment.device}; Python
{environment.python}, {versions}.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def code(run: Run, facts: dict[str, Any], reason: str | None) -> str:
    """A program for the folder's own directory."""
    if isinstance(run.network, TextUNet):
        kind = "words"
    elif run.objective.method == "consistency":
        kind = "consistency" if reason is None else "multistep"
    else:
        kind = "pipeline" if reason is None else "flow" if run.objective.method == "flow" else "ddim"
    channels, height, width = facts["shape"]
    told, most = run.network.class_conditional, run.pairing.scale * facts["largest"]
    return CODE[kind].format(
        channels=channels,
        height=height,
        width=width,
        labels=f"\nlabels = torch.arange(16) % {facts['classes']}" if told else "",
        argument=", class_labels=labels" if told else "",
        steps=max(run.evaluation.sampler_steps) or INSTEAD_OF_ADAPTIVE,
        timesteps=list(run.sampler.levels[::-1]),
        clip=f".clamp(-{most}, {most})" if run.sampler.clip_sample else "",
        scale=run.pairing.scale,
        guidance=run.sampler.guidance_scale,
        prompt=facts["prompts"][-1] if facts["prompts"] else "",
        low=facts["low"],
        high=facts["high"],
    )
