"""`immref bench RECIPE`: what a training step costs under each pairing, beside a bare PyTorch loop over the same network."""

import copy
import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from rich.console import Console
from torch import Tensor

from immref import KNN, Pairing
from immref_trainers import environment, streams
from immref_trainers.bench import measure
from immref_trainers.bench.write import render
from immref_trainers.config import Objective, Run
from immref_trainers.data.training import Images
from immref_trainers.loop import Step, Trainer
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.tables import Table

BARE = "bare loop"
DEAREST = KNN(k=128)  # measured beside the recipe's pairings: k costs nothing, or it shows here
TARGETS = {"vanilla": 0.95, "knn": 0.02, "linear_assignment": 0.10}  # steps/s for the bare loop's; shares of a step


@dataclass(frozen=True)
class StepRow:
    """One way's training step.

    Attributes
    ----------
    way : the bare loop, or a pairing
    ms : the least of its times
    against_bare : its steps a second for the bare loop's
    pairing_share : median time of pairing for that of the whole step; None for the bare loop
    peak_bytes : memory beyond what was held before a step; None where it cannot be measured
    steps : how many were timed
    """

    way: str
    ms: float
    against_bare: float
    pairing_share: float | None
    peak_bytes: int | None
    steps: int


def bench(
    run: Run, pairings: tuple[Pairing, ...], images: Images, accelerator: Accelerator, seconds: float, folder: Path | None, console: Console
) -> list[StepRow]:
    """Time steps of every way in turn, about `seconds` each; print the table, and write steps.json where a folder is named."""
    rows = rows_of(run, pairings, images, accelerator, seconds)
    console.print(f"\n{render(table(run, rows, accelerator))}", highlight=False, markup=False, soft_wrap=True)
    if folder is not None:
        environment.new_folder(folder)
        where = dataclasses.asdict(environment.describe(accelerator))
        record = {"environment": where, "run": dataclasses.asdict(run), "steps": [dataclasses.asdict(row) for row in rows]}
        (folder / "steps.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        console.print(f"written to {folder}", highlight=False, markup=False)
    return rows


def rows_of(run: Run, pairings: tuple[Pairing, ...], images: Images, accelerator: Accelerator, seconds: float) -> list[StepRow]:
    """Steps of the bare loop and of `Trainer` under each pairing, one of each a round."""
    longest = max(measure.ROUNDS, run.max_train_steps)
    run = dataclasses.replace(
        run, max_train_steps=longest, evaluation=dataclasses.replace(run.evaluation, at_steps=(longest,)), assignment_scope="window"
    )
    told: dict[str, list[Step]] = {}
    ways = {BARE: bare(run, images, accelerator).__next__}
    for pairing in dict.fromkeys((*pairings, DEAREST)):
        steps = Trainer(dataclasses.replace(run, pairing=pairing), images, accelerator).steps()
        kept = told.setdefault(str(pairing), [])
        ways[str(pairing)] = lambda steps=steps, kept=kept: kept.append(next(steps))  # type: ignore[misc]
    found = measure.side_by_side(ways, seconds, str(accelerator.device))
    return [
        StepRow(way, one.ms, found[BARE].ms / one.ms, share(told[way]) if way in told else None, one.peak_bytes, one.calls)
        for way, one in found.items()
    ]


def share(steps: list[Step]) -> float:
    """Pairing's part of a step."""
    return statistics.median(step.pairing_ms for step in steps) / statistics.median(step.step_ms for step in steps)


def bare(run: Run, images: Images, accelerator: Accelerator) -> Iterator[None]:
    """The loop that one would write without this package: images from memory, noise from `randn`, Adam, clipping, average.

    It pairs nothing, logs nothing and can save nothing; DDPM's arithmetic is diffusers'.
    """
    device, size, pieces = accelerator.device, run.train_batch_size, run.gradient_accumulation_steps
    channels, side, _ = images.train.shape
    assert isinstance(run.network, UNet)
    network = unet.build(run.network, channels, side, streams.torch_seed(streams.WEIGHTS, run.seed), images.classes).to(device)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), run.optimizer.learning_rate)
    generator = streams.generator(streams.ORDER, run.seed)
    corrupted = flow if run.objective.method == "flow" else ddpm(run, device)
    while True:
        for _ in range(pieces):
            index = generator.integers(len(images.train), size=size)
            labels = images.train.labels(index) if run.network.class_conditional else None
            told = {} if labels is None else {"class_labels": torch.from_numpy(labels).to(device)}
            x = torch.from_numpy(images.train.images(index)).to(device)
            x_t, t, target = corrupted(x, torch.randn_like(x))
            with accelerator.autocast():
                loss = torch.nn.functional.mse_loss(network(x_t, t, **told).sample.float(), target)
            (loss / pieces).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), run.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1 - run.optimizer.ema_decay)
        loss.item()
        yield


def flow(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, the network's time and the velocity."""
    t = torch.rand(len(x), device=x.device)
    part = t[:, None, None, None]
    return part * x + (1 - part) * noise, 1000 * t, x - noise


def ddpm(run: Run, device: torch.device) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The same by diffusers' scheduler, for what the network of `run` predicts."""
    objective = run.objective
    assert isinstance(objective, Objective)
    betas = 1 - objective.alpha_bar() / np.append(1.0, objective.alpha_bar()[:-1])
    scheduler = DDPMScheduler(objective.num_train_timesteps, trained_betas=betas)

    def corrupted(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.randint(objective.num_train_timesteps, (len(x),), device=device)
        x_t = scheduler.add_noise(x, noise, t)
        if objective.prediction == "v_prediction":
            return x_t, t, scheduler.get_velocity(x, noise, t)
        return x_t, t, noise if objective.prediction == "epsilon" else x

    return corrupted


def table(run: Run, rows: list[StepRow], accelerator: Accelerator) -> Table:
    """What was measured, and how it stands to the targets."""
    window, (least, most) = run.train_batch_size * run.gradient_accumulation_steps, (f(row.steps for row in rows) for f in (min, max))
    caption = (
        f"A step of {window} images ({run.gradient_accumulation_steps} × {run.train_batch_size}) on {accelerator.device}, "
        f"the least of {most if least == most else f'{least} to {most}'}, taken in turn. "
        "The bare loop has the same network, randn for noise, Adam, clipping and average. "
        "Memory: a step's peak beyond what was held before it. "
        f"Targets, for images of CIFAR-10's size in batches of 256: vanilla ≥ {TARGETS['vanilla']} of the bare loop's steps a second, "
        f"KNN ≤ {TARGETS['knn']:.0%} and assignment ≤ {TARGETS['linear_assignment']:.0%} of a step."
    )
    cells = [
        [
            row.way,
            f"{row.ms:.1f}",
            f"{row.against_bare:.3f}",
            "–" if row.pairing_share is None else f"{row.pairing_share:.2%}",
            "–" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.1f}",
        ]
        for row in rows
    ]
    return Table(
        f"What a training step of {run.recipe} costs", caption, ["way", "ms", "steps/s,\n× bare", "pairing's\nshare", "memory,\nMiB"], cells
    )
