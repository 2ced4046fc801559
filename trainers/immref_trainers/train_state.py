"""A trainer's state as a checkpoint takes it: tensors by name, and records that JSON gives back as they were."""

import copy
import json
from typing import Any

import torch

from immref_trainers.checkpoint import Checkpoint
from immref_trainers.errors import TrainingError

Record = dict[str, Any]


def learned(network: torch.nn.Module, frozen: set[str]) -> dict[str, torch.Tensor]:
    """A network's state but for the weights of these names."""
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def learn(network: torch.nn.Module, frozen: set[str], tensors: dict[str, torch.Tensor]) -> None:
    """Take what `learned` gave; frozen weights stay."""
    state = network.state_dict()
    network.load_state_dict({name: state[name] for name in frozen} | tensors)


def twin(network: torch.nn.Module) -> torch.nn.Module:
    """A copy that is not trained, frozen weights shared with the original."""
    shared = {id(weight): weight for weight in network.parameters() if not weight.requires_grad}
    return copy.deepcopy(network, shared).requires_grad_(False)


def flatten(state: Record, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """An optimizer's tensors under 'PARAMETER.KEY', as 'conv_in.weight.exp_avg'."""
    names = trainable(network)
    return {f"{names[number]}.{key}": torch.as_tensor(value) for number, kept in state["state"].items() for key, value in kept.items()}


def unflatten(tensors: dict[str, torch.Tensor], state: Record, network: torch.nn.Module) -> Record:
    """`state` with the tensors that `flatten` named."""
    numbers = {name: number for number, name in enumerate(trainable(network))}
    kept: dict[int, Record] = {}
    for path, tensor in tensors.items():
        name, _, key = path.rpartition(".")
        kept.setdefault(numbers[name], {})[key] = tensor
    return state | {"state": kept}


def trainable(network: torch.nn.Module) -> list[str]:
    """Names of the weights that an optimizer gets, in its order."""
    return [name for name, weight in network.named_parameters() if weight.requires_grad]


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
