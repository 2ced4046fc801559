"""Started by torchrun in two processes: pairs a window under every scope and trains; the first process writes what came out."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from immref_trainers import config, pooling, strict_json
from immref_trainers.data import training
from immref_trainers.loop import Trainer

STEP = 3


def pair(run, images, accelerator):
    """A window under every scope, the rows of all processes one below the other."""
    count = run.train_batch_size * run.gradient_accumulation_steps
    rows = accelerator.process_index * count + torch.arange(count).numpy()
    x, labels = torch.from_numpy(images.train.images(rows)), images.train.labels(rows)
    for scope in ("batch", "window", "global"):
        paired = pooling.pair_window(x, labels, replace(run, assignment_scope=scope), STEP, accelerator)
        parts = {"x": paired.x, "noise": paired.noise, "index": paired.index, "before": paired.before[None], "after": paired.after[None]}
        yield from ((f"{scope}.{name}", accelerator.gather(part)) for name, part in parts.items())


def train(run, images, accelerator):
    """What a run logs, and the weights that it ends with in every process."""
    trainer = Trainer(run, images, accelerator)
    steps = [[step.loss, step.grad_norm, step.before, step.after] for step in trainer.steps()]
    weights = torch.cat([weight.detach().flatten() for weight in trainer.bare.parameters()])
    return {"steps": torch.tensor(steps, dtype=torch.float64), "weights": accelerator.gather(weights[None])}


if __name__ == "__main__":
    output, *records = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2, accelerator.num_processes
    found = {"processes": torch.tensor(accelerator.num_processes)}
    for record in records:
        run = strict_json.read(config.Run, record.read_text(encoding="utf-8"))
        images = training.open_images(run.data, run.seed)
        results = dict(pair(run, images, accelerator)) | train(run, images, accelerator)
        found |= {f"{record.stem}.{name}": value for name, value in results.items()}
    if accelerator.is_main_process:
        save_file(found, output)
    accelerator.end_training()
