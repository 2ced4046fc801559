"""A trainer's state as a checkpoint takes it: tensors by name, and records that JSON gives back as they were."""

import json
from typing import Any

import torch

from immref_trainers.checkpoint import Checkpoint
from immref_trainers.errors import TrainingError

Record = dict[str, Any]


def flatten(state: Record, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """An optimizer's tensors under 'PARAMETER.KEY', as 'conv_in.weight.exp_avg'."""
    names = [name for name, _ in network.named_parameters()]
    return {f"{names[number]}.{key}": torch.as_tensor(value) for number, kept in state["state"].items() for key, value in kept.items()}


def unflatten(tensors: dict[str, torch.Tensor], state: Record, network: torch.nn.Module) -> Record:
    """`state` with the tensors that `flatten` named."""
    numbers = {name: number for number, (name, _) in enumerate(network.named_parameters())}
    kept: dict[int, Record] = {}
    for path, tensor in tensors.items():
        name, _, key = path.rpartition(".")
        kept.setdefault(numbers[name], {})[key] = tensor
    return state | {"state": kept}


def plain(record: Any) -> Any:
    """What JSON makes of a record: tuples become lists."""
    return json.loads(json.dumps(record))


def check_same(saved: Checkpoint, now: Record) -> None:
    """Going on is exact only in the same run on the same number of processes."""
    if differing := differences(saved.records["run"], now["run"]):
        name, before, after = differing[0]
        raise TrainingError(f"checkpoint-{saved.step} is of another run: {name} was {before!r} and is now {after!r}")
    before, after = saved.records["trainer"]["processes"], now["trainer"]["processes"]
    if before != after:
        raise TrainingError(f"checkpoint-{saved.step} was saved by {before} processes and cannot go on in {after}: their noise differs")


def differences(first: Any, second: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Where two records differ: (dotted name, here, there)."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        return [one for key in keys for one in differences(first.get(key), second.get(key), f"{name}.{key}".lstrip("."))]
    return [] if first == second else [(name, first, second)]
