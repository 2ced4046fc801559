"""Images completed: what is known is laid over what is sampled, at every step at that step's noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import RePaintScheduler
from torch import Tensor

from immref.diffusion import corrupt
from immref_trainers import streams
from immref_trainers.config import Objective, Run
from immref_trainers.edit.settings import Task
from immref_trainers.finished import Model
from immref_trainers.samplers import ddim
from immref_trainers.samplers.chunks import chunks

Array = np.ndarray[Any, Any]

JUMP = 10  # steps of one of RePaint's passes


@dataclass(frozen=True)
class Known:
    """What a sampler must keep: `x` (N, C, h, w) times the image scaling, where `missing` (h, w) is False."""

    x: Tensor
    missing: Tensor


def missing_part(task: Task, height: int, width: int, centre: float) -> Array:
    """Which pixels (H, W) are missing: the centre, or all but the centre; neither is ever empty."""
    inside = []
    for side in (height, width):
        length = min(max(round(centre * side), 1), side - 1)
        first = (side - length) // 2
        inside.append((np.arange(side) >= first) & (np.arange(side) < first + length))
    middle = inside[0][:, None] & inside[1]
    return middle if task == "inpaint" else ~middle


def emptied(x: Array, missing: Array, seed: int) -> Array:
    """Images (N, C, H, W) with standard normal noise in place of the missing pixels, so that nothing of them is seen from then on."""
    noise = streams.generator(streams.EDIT, seed).standard_normal(x.shape, dtype=np.float32)
    return np.where(missing, noise, x)


def known_part(model: Model, run: Run, x: Array, missing: Array) -> Known:
    """Emptied images as the network works on them; one of its pixels is missing where any of the image's that it stands for is."""
    encoded = run.pairing.scale * model.encode(torch.from_numpy(x))
    factor = x.shape[-1] // encoded.shape[-1]
    whole = torch.from_numpy(missing)[None, None].float()
    return Known(encoded, torch.nn.functional.max_pool2d(whole, factor)[0, 0].bool().to(encoded.device))


def repaired(model: Model, run: Run, known: Known, noise: Tensor, labels: Tensor | None, steps: int, largest: float) -> Tensor:
    """Images (N, C, H, W): after every step the known part is replaced by itself at that step's noise level, the last time by itself.

    What diffusers' StableDiffusionInpaintPipeline does at strength 1 with a network that was not trained to repair.
    """
    samples = []
    for rows in torch.arange(len(noise)).split(run.train_batch_size):
        kept, n = known.x[rows], noise[rows]

        def lay(x_t: Tensor, a: float, b: float, kept: Tensor = kept, n: Tensor = n) -> Tensor:
            return torch.where(known.missing, x_t, corrupt(kept, n, a, b))

        told = None if labels is None else labels[rows]
        samples.append(ddim.sample(model.predict, n, steps, run, largest, told, lay))
    return model.decode(torch.cat(samples).to(noise.device))


@torch.inference_mode()
def resampled(model: Model, run: Run, known: Known, noise: Tensor, labels: Tensor | None, steps: int, passes: int, seed: int) -> Tensor:
    """Images (N, C, H, W) by RePaint (Lugmayr et al. 2022): the known part in fresh noise, and every stretch of steps passed repeatedly."""
    assert isinstance(run.objective, Objective)
    path = run.objective
    scheduler = RePaintScheduler(path.num_train_timesteps, path.beta_start, path.beta_end, path.beta_schedule, clip_sample=False)
    scheduler.set_timesteps(steps, jump_length=min(JUMP, max(1, steps // 2)), jump_n_sample=passes, device=noise.device)
    generator = torch.Generator(noise.device).manual_seed(streams.torch_seed(streams.EDIT, seed, 1))
    samples, place = [], 0
    for x_t, told in chunks(noise, labels, run.train_batch_size):
        kept, last = known.x[place : place + len(x_t)], scheduler.timesteps[0] + 1
        place += len(x_t)
        for t in scheduler.timesteps:
            if t < last:
                output = model.predict(x_t, torch.full((len(x_t),), int(t), device=x_t.device), told)
                x_t = scheduler.step(output, t, x_t, kept, (~known.missing).float(), generator).prev_sample
            else:
                x_t = scheduler.undo_step(x_t, last, generator)
            last = t
        samples.append(x_t / run.pairing.scale)
    return model.decode(torch.cat(samples))


def composited(made: Array, x: Array, missing: Array) -> Array:
    """Repaired images with the known pixels as they were."""
    return np.where(missing, made, x)
