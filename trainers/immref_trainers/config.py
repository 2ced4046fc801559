"""A run as one frozen record: what the command line sets, what `run.json` holds, what the loop reads."""

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

import numpy as np

from immref import Pairing, schedules
from immref._checks import check_choice, nearest_name
from immref_trainers.data.settings import Digits, Directory, Photos, require

Record = TypeVar("Record")

PREDICTIONS = {"flow": ("velocity",), "ddpm": ("epsilon", "v_prediction", "sample")}
SAMPLERS = {"flow": ("euler",), "ddpm": ("ddim",)}


@dataclass(frozen=True)
class UNet:
    """Sizes of diffusers' UNet2DModel."""

    block_out_channels: tuple[int, ...] = (16, 32)
    layers_per_block: int = 1
    norm_num_groups: int = 8
    attention_at: tuple[int, ...] = ()
    """Levels with self-attention, 0 being full resolution; with any of them the middle has it too."""
    attention_head_dim: int = 8
    """Channels of an attention head."""
    dropout: float = 0.0
    class_conditional: bool = False
    """Whether the network is told the labels of the images."""

    def __post_init__(self) -> None:
        channels, groups = self.block_out_channels, self.norm_num_groups
        require(self.layers_per_block >= 1, "network.layers_per_block", "be ≥ 1", self.layers_per_block)
        require(bool(channels) and min(channels) >= 1, "network.block_out_channels", "be one or more numbers ≥ 1", channels)
        require(
            groups >= 1 and not any(count % groups for count in channels), "network.norm_num_groups", f"divide each of {channels}", groups
        )
        levels, head = range(len(channels)), self.attention_head_dim
        require(set(self.attention_at) <= set(levels), "network.attention_at", f"be among {(*levels,)}", self.attention_at)
        attending = {channels[level] for level in (*self.attention_at, -1)} if self.attention_at else set()
        require(head >= 1 and not any(count % head for count in attending), "network.attention_head_dim", f"divide {attending}", head)
        require(0 <= self.dropout < 1, "network.dropout", "be in [0, 1)", self.dropout)


@dataclass(frozen=True)
class Objective:
    """What the network learns to predict, and the path from image to noise on which it does.

    The path of "flow" is x_t = t x + (1 - t) n with t in [0, 1]; that of "ddpm" is sqrt(alpha-bar_t) x + sqrt(1 - alpha-bar_t) n
    with t one of num_train_timesteps, and it alone has betas.
    """

    method: Literal["flow", "ddpm"] = "flow"
    prediction: Literal["velocity", "epsilon", "v_prediction", "sample"] = "velocity"
    """What the network predicts: the velocity under flow; the noise, v or the image under ddpm."""
    num_train_timesteps: int = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    """diffusers' names; squaredcos_cap_v2 has no beta_start and beta_end."""
    beta_start: float = schedules.DDPM_BETAS[0]
    beta_end: float = schedules.DDPM_BETAS[1]

    def __post_init__(self) -> None:
        check_choice(self.method, "objective.method", tuple(PREDICTIONS))
        known = PREDICTIONS[self.method]
        require(self.num_train_timesteps >= 1, "objective.num_train_timesteps", "be ≥ 1", self.num_train_timesteps)
        require(self.prediction in known, "objective.prediction", f"be {' or '.join(known)} for {self.method}", repr(self.prediction))
        if self.method == "flow":
            path = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")
            _require_defaults(self, path, "objective", "objective.method 'ddpm'")
        if self.beta_schedule == "squaredcos_cap_v2":
            _require_defaults(self, ("beta_start", "beta_end"), "objective", "another objective.beta_schedule than 'squaredcos_cap_v2'")
        self.alpha_bar()

    def alpha_bar(self) -> np.ndarray[Any, Any]:
        """The table (T,) of ddpm's alpha-bar."""
        betas = () if self.beta_schedule == "squaredcos_cap_v2" else (self.beta_start, self.beta_end)
        return schedules.alpha_bar(self.beta_schedule, self.num_train_timesteps, *betas)


@dataclass(frozen=True)
class Sampler:
    """How samples are drawn; no sampler adds noise (eta is 0)."""

    method: Literal["euler", "ddim"] = "euler"
    """euler follows the velocity of flow; ddim goes with ddpm."""
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    """Which of the training steps ddim visits, under diffusers' names; the paper's linear selection is leading."""
    clip_sample: bool = False
    """Whether ddim holds each predicted image within the data's largest absolute value, times the image scaling."""

    def __post_init__(self) -> None:
        check_choice(self.timestep_spacing, "sampler.timestep_spacing", schedules.SPACINGS)
        if self.method == "euler":
            _require_defaults(self, ("timestep_spacing", "clip_sample"), "sampler", "sampler.method 'ddim'")


@dataclass(frozen=True)
class Optimizer:
    """Adam, its learning rate over the steps, gradient clipping and the moving average of the weights."""

    learning_rate: float = 1e-3
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stays, or falls to 0 at max_train_steps."""
    lr_warmup_steps: int = 0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    """Grows from 0.1 as (1 + step) / (10 + step) until it reaches this value; 0 keeps the weights themselves."""

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < math.inf, "optimizer.learning_rate", "be finite and > 0", self.learning_rate)
        require(self.lr_warmup_steps >= 0, "optimizer.lr_warmup_steps", "be ≥ 0", self.lr_warmup_steps)
        require(self.max_grad_norm > 0, "optimizer.max_grad_norm", "be > 0", self.max_grad_norm)
        require(0 <= self.ema_decay < 1, "optimizer.ema_decay", "be in [0, 1)", self.ema_decay)


@dataclass(frozen=True)
class Evaluation:
    """When and how samples are drawn and compared with the data."""

    at_steps: tuple[int, ...] = (100, 200, 400, 800, 1200)
    sampler_steps: tuple[int, ...] = (4, 16)
    """Steps of the sampler; 0 is flow matching's adaptive solver."""
    num_samples: int = 1500
    draws: int = 1
    """Sets of num_samples from different noise, whose distances are averaged."""
    temperatures: tuple[float, ...] = (0.93, 1.08)
    """Standard deviations of the starting noise in the control rows of vanilla."""
    inception_weights: str | None = None
    """A local file with the weights of FID's Inception network; without it, features that need no download."""

    def __post_init__(self) -> None:
        steps, stds = self.sampler_steps, self.temperatures
        require(bool(steps) and min(steps) >= 0, "evaluation.sampler_steps", "be one or more numbers ≥ 0", steps)
        require(len(set(steps)) == len(steps), "evaluation.sampler_steps", "differ", steps)
        require(self.num_samples >= 2, "evaluation.num_samples", "be ≥ 2", self.num_samples)
        require(self.draws >= 1, "evaluation.draws", "be ≥ 1", self.draws)
        require(all(0 < std < math.inf for std in stds), "evaluation.temperatures", "be finite and > 0", stds)


@dataclass(frozen=True)
class Run:
    """One training run."""

    recipe: str
    data: Digits | Photos | Directory = field(default_factory=Digits)
    network: UNet = field(default_factory=UNet)
    objective: Objective = field(default_factory=Objective)
    pairing: Pairing = field(default_factory=Pairing)
    optimizer: Optimizer = field(default_factory=Optimizer)
    sampler: Sampler = field(default_factory=Sampler)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    train_batch_size: int = 128
    """Images of a micro-batch of one process."""
    gradient_accumulation_steps: int = 1
    """Micro-batches in a window, after which the optimizer steps."""
    assignment_scope: Literal["batch", "window", "global"] = "window"
    """Among which images linear assignment looks: those of a micro-batch, of a process's window, or of the windows of all processes."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    max_train_steps: int = 1200

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", "be in [0, 2**63)", self.seed)
        require(self.pairing.method != "knn" or self.pairing.k > 1, "pairing.k", "be ≥ 2 for knn (1 is vanilla)", self.pairing.k)
        for name in ("train_batch_size", "gradient_accumulation_steps", "max_train_steps"):
            require(getattr(self, name) >= 1, name, "be ≥ 1", getattr(self, name))
        known = SAMPLERS[self.objective.method]
        wanted = f"be {' or '.join(known)} where objective.method is {self.objective.method}"
        require(self.sampler.method in known, "sampler.method", wanted, self.sampler.method)
        least, most = self.sampler_range()
        wanted = f"lie in [{least}, {most:g}] with spacing {self.sampler.timestep_spacing}"
        counts = [count for count in self.evaluation.sampler_steps if count or self.sampler.method == "ddim"] or [least]
        require(least <= min(counts) and max(counts) <= most, "evaluation.sampler_steps", wanted, counts)
        steps = self.evaluation.at_steps
        if list(steps) != sorted(set(steps)) or not steps or steps[0] < 1 or steps[-1] != self.max_train_steps:
            raise ValueError(
                f"evaluation.at_steps must increase and end at max_train_steps={self.max_train_steps}, got {steps}; "
                "set both, e.g. --max-train-steps 400 --evaluation.at-steps 100 200 400"
            )

    def sampler_range(self) -> tuple[int, float]:
        """The fewest and the most steps in which samples can be drawn: ddim visits steps of the training, linspace both ends."""
        least = 2 if self.sampler.timestep_spacing == "linspace" else 1
        return least, self.objective.num_train_timesteps if self.sampler.method == "ddim" else math.inf


@dataclass(frozen=True)
class Options:
    """Where things run, what is written and when; nothing here changes a result."""

    output_dir: Path | None = None
    """A new or empty folder; by default one under runs/ named after the recipe and the time."""
    resume_from_checkpoint: str | None = None
    """Go on in output_dir: latest, checkpoint-N or a path; latest begins anew where there is no checkpoint."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = 2
    """How many checkpoints stay; all without it."""
    report_to: str | None = None
    """A tracker that accelerate knows, as tensorboard or wandb; metrics.jsonl is always written."""
    workers: int = 1
    """Threads that decode images."""
    backend: str | None = None
    """auto, reference, torch, cupy or an installed plugin; wins over IMMREF_BACKEND."""
    device: str | None = None
    """cpu, cuda, cuda:N or mps; wins over IMMREF_DEVICE."""
    dry_run: bool = False
    """Print the settings as run.json would hold them, and stop."""

    def __post_init__(self) -> None:
        require(self.checkpointing_steps >= 1, "checkpointing_steps", "be ≥ 1", self.checkpointing_steps)
        limit = self.checkpoints_total_limit
        require(limit is None or limit >= 1, "checkpoints_total_limit", "be ≥ 1", limit)
        require(self.workers >= 1, "workers", "be ≥ 1", self.workers)
        known = self.resume_from_checkpoint is None or self.output_dir is not None
        require(known, "output_dir", "be given, the folder of the run to go on with", self.output_dir)


def _require_defaults(record: Any, names: tuple[str, ...], group: str, wanted: str) -> None:
    """The sentence for settings that were given although they belong to another choice."""
    for name in names:
        value = getattr(record, name)
        if value != type(record).__dataclass_fields__[name].default:
            raise ValueError(f"{group}.{name}={value!r} needs {wanted}")


def parse_pairing(text: str) -> Pairing:
    """'knn,k=8,scale=2' as a Pairing."""
    method, *pairs = text.split(",")
    values: dict[str, Any] = {"method": method}
    kinds: dict[str, type] = {"k": int, "score": str, "scale": float, "cost": str, "solver": str, "within": str}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in kinds:
            raise ValueError(f"pairing {text!r} has an unknown key {key!r}; known: {', '.join(kinds)}{nearest_name(key, kinds)}")
        if key in values:
            raise ValueError(f"pairing {text!r} sets {key} twice")
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise ValueError(f"pairing {text!r}: {key} must be {kinds[key].__name__}, got {value!r}") from None
    if method == "knn" and "k" not in values:
        raise ValueError(f"pairing {text!r} needs k, for example knn,k=4")
    return Pairing(**values)


def run_name(run: Run) -> str:
    """The folder of one run: 'knn-k4-seed0'."""
    words = str(run.pairing).lower().replace("×", "x").translate(str.maketrans("", "", "=,()")).split()
    return f"{'-'.join(words)}-seed{run.seed}"


def to_json(record: Any) -> str:
    """A record as the text of its file."""
    return json.dumps(dataclasses.asdict(record), indent=2) + "\n"


def read(kind: type[Record], text: str) -> Record:
    """A record from its text, strictly: an unknown or missing key, or a value of another type, is an error that names it."""
    record: Record = _decode(kind, json.loads(text), kind.__name__.lower())
    return record


def load_run(folder: Path) -> Run:
    """The run recorded in `folder`."""
    return read(Run, (folder / "run.json").read_text(encoding="utf-8"))


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass or one of several, a Literal, a homogeneous tuple, a plain type, or None where that is allowed."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):  # Literal | None is the latter
        return _decode(_member(args, value, where), value, where)
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}{nearest_name(value, args)}")
        return value
    if origin is tuple:
        return _decode_items(args[0], value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, got {value!r}")
        return {args[0](key): _decode(args[1], item, f"{where}[{key}]") for key, item in value.items()}
    if origin is list:
        return list(_decode_items(args[0], value, where))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be a {kind.__name__}, got {value!r}")
    return value


def _decode_items(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    """The items of a list."""
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {value!r}")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, item in enumerate(value))


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    """A dataclass, every field present and none unknown."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    types_by_name = typing.get_type_hints(kind)
    for key in value:
        if key not in types_by_name:
            raise ValueError(f"{where} has an unknown key {key!r}; known: {', '.join(types_by_name)}{nearest_name(key, types_by_name)}")
    if missing := [key for key in types_by_name if key not in value]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return kind(**{key: _decode(types_by_name[key], value[key], f"{where}.{key}") for key in value})


def _member(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Which of `kinds` a value is: None, the record that its dataset_name tells, or the one that is left."""
    if value is None and NoneType in kinds:
        return NoneType
    records: dict[str, Any] = {kind.dataset_name: kind for kind in kinds if hasattr(kind, "dataset_name")}
    if not records:
        return next(kind for kind in kinds if kind is not NoneType)
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    name = value.get("dataset_name")
    if name not in records:
        raise ValueError(f"{where}.dataset_name must be one of {', '.join(map(repr, records))}, got {name!r}{nearest_name(name, records)}")
    return records[name]
