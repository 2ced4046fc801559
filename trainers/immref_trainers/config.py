"""A run as one frozen record: what the command line sets, what `run.json` holds, what the loop reads."""

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from immref import Pairing, schedules
from immref._checks import check_choice, nearest_name

PREDICTIONS = {"flow": ("velocity",), "ddpm": ("epsilon", "v_prediction", "sample")}
SAMPLERS = {"flow": ("euler",), "ddpm": ("ddim",)}


@dataclass(frozen=True)
class Data:
    """The images."""

    dataset_name: Literal["digits"] = "digits"
    pixel_std: float = 0.5
    """Images are shifted by their global mean and divided so that pixels have this standard deviation."""
    held_out: int = 297
    """Images kept from training: for the matched prior and for a metric on unseen data."""

    def __post_init__(self) -> None:
        _require(self.held_out >= 2, "data.held_out", "leave 2 digits on either side", self.held_out)
        _require(0 < self.pixel_std < math.inf, "data.pixel_std", "be finite and > 0", self.pixel_std)


@dataclass(frozen=True)
class UNet:
    """Sizes of diffusers' UNet2DModel."""

    block_out_channels: tuple[int, ...] = (16, 32)
    layers_per_block: int = 1
    norm_num_groups: int = 8

    def __post_init__(self) -> None:
        channels, groups = self.block_out_channels, self.norm_num_groups
        _require(self.layers_per_block >= 1, "network.layers_per_block", "be ≥ 1", self.layers_per_block)
        _require(bool(channels) and min(channels) >= 1, "network.block_out_channels", "be one or more numbers ≥ 1", channels)
        _require(
            groups >= 1 and not any(count % groups for count in channels), "network.norm_num_groups", f"divide each of {channels}", groups
        )


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
        _require(self.num_train_timesteps >= 1, "objective.num_train_timesteps", "be ≥ 1", self.num_train_timesteps)
        _require(self.prediction in known, "objective.prediction", f"be {' or '.join(known)} for {self.method}", repr(self.prediction))
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
    """Adam, gradient clipping and the moving average of the weights."""

    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    """Grows from 0.1 as (1 + step) / (10 + step) until it reaches this value."""

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate < math.inf, "optimizer.learning_rate", "be finite and > 0", self.learning_rate)
        _require(self.max_grad_norm > 0, "optimizer.max_grad_norm", "be > 0", self.max_grad_norm)
        _require(0 <= self.ema_decay < 1, "optimizer.ema_decay", "be in [0, 1)", self.ema_decay)


@dataclass(frozen=True)
class Evaluation:
    """When and how samples are drawn and compared with the data."""

    at_steps: tuple[int, ...] = (100, 200, 400, 800, 1200)
    sampler_steps: tuple[int, ...] = (4, 16)
    num_samples: int = 1500
    temperature: float = 1.08
    """Standard deviation of the starting noise in the control row of vanilla."""

    def __post_init__(self) -> None:
        steps = self.sampler_steps
        _require(bool(steps) and min(steps) >= 1, "evaluation.sampler_steps", "be one or more numbers ≥ 1", steps)
        _require(len(set(steps)) == len(steps), "evaluation.sampler_steps", "differ", steps)
        _require(self.num_samples >= 2, "evaluation.num_samples", "be ≥ 2", self.num_samples)
        _require(0 < self.temperature < math.inf, "evaluation.temperature", "be finite and > 0", self.temperature)


@dataclass(frozen=True)
class Run:
    """One training run."""

    recipe: str
    data: Data = field(default_factory=Data)
    network: UNet = field(default_factory=UNet)
    objective: Objective = field(default_factory=Objective)
    pairing: Pairing = field(default_factory=Pairing)
    optimizer: Optimizer = field(default_factory=Optimizer)
    sampler: Sampler = field(default_factory=Sampler)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    train_batch_size: int = 128
    gradient_accumulation_steps: int = 1
    """Micro-batches of train_batch_size in a window; pairing sees the whole window at once."""
    max_train_steps: int = 1200

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, "seed", "be in [0, 2**63)", self.seed)
        _require(self.pairing.method != "knn" or self.pairing.k > 1, "pairing.k", "be ≥ 2 for knn (1 is vanilla)", self.pairing.k)
        for name in ("train_batch_size", "gradient_accumulation_steps", "max_train_steps"):
            _require(getattr(self, name) >= 1, name, "be ≥ 1", getattr(self, name))
        known = SAMPLERS[self.objective.method]
        wanted = f"be {' or '.join(known)} where objective.method is {self.objective.method}"
        _require(self.sampler.method in known, "sampler.method", wanted, self.sampler.method)
        least, most = self.sampler_range()
        wanted = f"lie in [{least}, {most:g}] with spacing {self.sampler.timestep_spacing}"
        counts = self.evaluation.sampler_steps
        _require(least <= min(counts) and max(counts) <= most, "evaluation.sampler_steps", wanted, counts)
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


def _require(holds: bool, name: str, wanted: str, value: Any) -> None:
    """The sentence for a setting that cannot work."""
    if not holds:
        raise ValueError(f"{name} must {wanted}, got {value}")


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


def from_json(text: str) -> Run:
    """Read `run.json` strictly: an unknown or missing key, or a value of another type, is an error that names it."""
    run: Run = _decode(Run, json.loads(text), "run")
    return run


def load_run(folder: Path) -> Run:
    """The run recorded in `folder`."""
    return from_json((folder / "run.json").read_text(encoding="utf-8"))


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass, a Literal, a homogeneous tuple or a plain type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, got {value!r}")
        types_by_name = typing.get_type_hints(kind)
        for key in value:
            if key not in types_by_name:
                raise ValueError(f"{where} has an unknown key {key!r}; known: {', '.join(types_by_name)}{nearest_name(key, types_by_name)}")
        if missing := [key for key in types_by_name if key not in value]:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        record: Any = kind
        return record(**{key: _decode(types_by_name[key], value[key], f"{where}.{key}") for key in value})
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}{nearest_name(value, args)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {value!r}")
        return tuple(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be a {kind.__name__}, got {value!r}")
    return value
