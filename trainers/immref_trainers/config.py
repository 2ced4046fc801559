"""A run as one frozen record: what the command line sets, what `run.json` holds, what the loop reads."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from immref import Pairing, schedules
from immref._checks import check_choice, nearest_name
from immref_trainers import strict_json
from immref_trainers.data.settings import CaptionedDigits, Digits, Directory, Photos, PushT, require
from immref_trainers.networks.settings import PolicyUNet, TextUNet, UNet

PREDICTIONS = {"flow": ("velocity",), "ddpm": ("epsilon", "v_prediction", "sample")}
SAMPLERS = {"flow": ("euler",), "ddpm": ("ddim", "ddpm"), "consistency": ("multistep",)}
LADDER = 40  # noise levels among which multistep chooses


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
class Consistency:
    """Consistency training: a network whose output is the image itself, alike at neighbouring noise levels of x + sigma n.

    "ct" is the paper's baseline (Song et al. 2023): N(k) levels, drawn uniformly, a target network that follows with decay mu(k).
    "ict" (Song & Dhariwal 2023) doubles the levels, draws them log-normally, weighs by 1 / (difference of the levels) and has no
    target network.
    """

    method: Literal["consistency"] = "consistency"
    variant: Literal["ct", "ict"] = "ict"
    distance: Literal["pseudo_huber", "l2", "lpips"] = "pseudo_huber"
    """Between the outputs at two levels: sqrt(|d|² + c²) - c with c = 0.00054 sqrt(D); mean squares; or LPIPS."""
    lpips_weights: str | None = None
    """A local safetensors file for lpips, VGG16's convolutions and LPIPS' five layers under torchvision's and lpips' names."""
    s0: int = 10
    """Levels at the first step, for ict one more. The papers: 2 (ct), 10 (ict)."""
    s1: int = 1280
    """Levels at the last step, less one. The papers: 150 (ct), 1280 (ict)."""
    mu0: float = 0.9
    """Decay of ct's target network at s0 levels."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    """Standard deviation of the images before image scaling, which multiplies it."""

    def __post_init__(self) -> None:
        check_choice(self.method, "objective.method", ("consistency",))
        check_choice(self.variant, "objective.variant", ("ct", "ict"))
        check_choice(self.distance, "objective.distance", ("pseudo_huber", "l2", "lpips"))
        require(2 <= self.s0 <= self.s1, "objective.s0", f"lie in [2, s1={self.s1}]", self.s0)
        require(0 < self.mu0 < 1, "objective.mu0", "be in (0, 1)", self.mu0)
        require(self.sigma_min > 0, "objective.sigma_min", "be > 0", self.sigma_min)
        wanted = f"be finite and > sigma_min={self.sigma_min}"
        require(self.sigma_min < self.sigma_max < math.inf, "objective.sigma_max", wanted, self.sigma_max)
        require(0 < self.sigma_data < math.inf, "objective.sigma_data", "be finite and > 0", self.sigma_data)
        if self.distance == "lpips":
            wanted = "be given with distance lpips: a local safetensors file with VGG16's and LPIPS' weights"
            require(self.lpips_weights is not None, "objective.lpips_weights", wanted, self.lpips_weights)
        else:
            _require_defaults(self, ("lpips_weights",), "objective", "objective.distance 'lpips'")
        if self.variant == "ict":
            _require_defaults(self, ("mu0",), "objective", "objective.variant 'ct'")

    def levels(self, step: int, train_steps: int) -> int:
        """N at training step `step`, from 0."""
        curriculum = schedules.consistency_levels if self.variant == "ct" else schedules.doubling_levels
        return curriculum(step, train_steps, self.s0, self.s1)


@dataclass(frozen=True)
class Sampler:
    """How samples are drawn; multistep and ddpm add noise on the way, the others none (eta is 0)."""

    method: Literal["euler", "ddim", "ddpm", "multistep"] = "euler"
    """euler follows the velocity of flow; ddim and the ancestral ddpm go with ddpm, multistep with consistency."""
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    """Which of the training steps ddim and ddpm visit, under diffusers' names; the paper's linear selection is leading."""
    clip_sample: bool = False
    """Whether ddim, ddpm and multistep hold each predicted image within the data's largest absolute value, times the image scaling."""
    guidance_scale: float = 1.0
    """How far ddim goes beyond what is predicted without a prompt, towards what is with it; 1 asks for the prompt alone."""
    levels: tuple[int, ...] = (0, 24)
    """Where multistep calls the network, S steps at the first S: places among Karras' 40 noise levels, 0 the largest, rising."""

    def __post_init__(self) -> None:
        check_choice(self.timestep_spacing, "sampler.timestep_spacing", schedules.SPACINGS)
        if self.method == "euler":
            _require_defaults(self, ("clip_sample",), "sampler", "sampler.method 'ddim', 'ddpm' or 'multistep'")
        if self.method not in ("ddim", "ddpm"):
            _require_defaults(self, ("timestep_spacing",), "sampler", "sampler.method 'ddim' or 'ddpm'")
        if self.method != "ddim":
            _require_defaults(self, ("guidance_scale",), "sampler", "sampler.method 'ddim'")
        require(1 <= self.guidance_scale < math.inf, "sampler.guidance_scale", "be finite and ≥ 1", self.guidance_scale)
        if self.method != "multistep":
            _require_defaults(self, ("levels",), "sampler", "sampler.method 'multistep'")
        levels, wanted = self.levels, f"rise from 0 and be < {LADDER}"
        rises = levels[:1] == (0,) and all(here < there for here, there in pairwise((*levels, LADDER)))
        require(rises, "sampler.levels", wanted, levels)


@dataclass(frozen=True)
class Optimizer:
    """AdamW, its learning rate over the steps, gradient clipping and the moving average of the weights."""

    learning_rate: float = 1e-3
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stays, or falls to 0 at max_train_steps."""
    lr_warmup_steps: int = 0
    weight_decay: float = 0.0
    """Of AdamW; 0 is Adam."""
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    """Grows from 0.1 as (1 + step) / (10 + step) until it reaches this value; 0 keeps the weights themselves."""
    ema_power: float | None = None
    """Where given, it grows from 0 as 1 - (1 + step)^-power instead; Diffusion Policy's is 0.75."""

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < math.inf, "optimizer.learning_rate", "be finite and > 0", self.learning_rate)
        require(self.lr_warmup_steps >= 0, "optimizer.lr_warmup_steps", "be ≥ 0", self.lr_warmup_steps)
        require(0 <= self.weight_decay < math.inf, "optimizer.weight_decay", "be finite and ≥ 0", self.weight_decay)
        require(self.max_grad_norm > 0, "optimizer.max_grad_norm", "be > 0", self.max_grad_norm)
        require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", "be in [0, 1)", self.betas)
        require(0 <= self.ema_decay < 1, "optimizer.ema_decay", "be in [0, 1)", self.ema_decay)
        require(self.ema_power is None or self.ema_power > 0, "optimizer.ema_power", "be > 0", self.ema_power)

    def decay_at(self, step: int) -> float:
        """Of the moving average at a step, from 0."""
        grown = (1 + step) / (10 + step) if self.ema_power is None else 1 - (1 + step) ** -self.ema_power
        return min(self.ema_decay, grown)


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
    clip: str | None = None
    """A local directory with a CLIP model, for CLIPScore; without it the pipeline's folder clip, where it has one."""

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
    data: Digits | Photos | CaptionedDigits | Directory | PushT = field(default_factory=Digits)
    network: UNet | TextUNet | PolicyUNet = field(default_factory=UNet)
    objective: Objective | Consistency = field(default_factory=Objective)
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
    pairing_start: int = 0
    """Steps of vanilla training before pairing begins."""
    pairing_standardised: bool = False
    """Pair by images of which each number is shifted and stretched to mean 0 and deviation 1 over the window."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    max_train_steps: int = 1200

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", "be in [0, 2**63)", self.seed)
        require(self.pairing.method != "knn" or self.pairing.k > 1, "pairing.k", "be ≥ 2 for knn (1 is vanilla)", self.pairing.k)
        require(self.pairing_start >= 0, "pairing_start", "be ≥ 0", self.pairing_start)
        for name in ("train_batch_size", "gradient_accumulation_steps", "max_train_steps"):
            require(getattr(self, name) >= 1, name, "be ≥ 1", getattr(self, name))
        known = SAMPLERS[self.objective.method]
        wanted = f"be {' or '.join(known)} where objective.method is {self.objective.method}"
        require(self.sampler.method in known, "sampler.method", wanted, self.sampler.method)
        self._check_consistency()
        policy = isinstance(self.network, PolicyUNet)
        require(policy or self.sampler.method != "ddpm", "sampler.method", "be ddim where images are sampled; ddpm is for policies", "ddpm")
        if self.pairing_standardised:
            wanted = "be False but for policies whose pairing looks at a batch or a window"
            require(policy and self.assignment_scope != "global", "pairing_standardised", wanted, self.pairing_standardised)
        require(
            policy == isinstance(self.data, PushT),
            "network.architecture",
            "be ConditionalUNet1D for pusht alone",
            self.network.architecture,
        )
        if policy:
            require(self.objective.method == "ddpm", "objective.method", "be ddpm for a policy", self.objective.method)
            require(self.pairing.within == "batch", "pairing.within", "be batch for a policy, which has no labels", self.pairing.within)
        if isinstance(self.network, TextUNet):
            require(self.objective.method == "ddpm", "objective.method", "be ddpm for a network told in words", self.objective.method)
            captions = self.network.prompt is None and self.pairing.within == "label"
            require(not captions, "pairing.within", "be batch where each image has a caption of its own", self.pairing.within)
        else:
            _require_defaults(self.sampler, ("guidance_scale",), "sampler", "a network told in words")
            _require_defaults(self.evaluation, ("clip",), "evaluation", "a network told in words")
        least, most = self.sampler_range()
        multistep = self.sampler.method == "multistep"
        reason = f"sampler.levels {self.sampler.levels}" if multistep else f"spacing {self.sampler.timestep_spacing}"
        wanted = f"lie in [{least}, {most:g}] with {reason}"
        counts = [count for count in self.evaluation.sampler_steps if count or self.sampler.method != "euler"] or [least]
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
        if isinstance(self.objective, Consistency):
            return least, len(self.sampler.levels)
        return least, math.inf if self.sampler.method == "euler" else self.objective.num_train_timesteps

    @property
    def steps_offset(self) -> int:
        """diffusers' setting of ddim: with leading spacing Stable Diffusion's pipeline visits the step after."""
        return int(isinstance(self.network, TextUNet) and self.sampler.timestep_spacing == "leading")

    def _check_consistency(self) -> None:
        """ict's doublings need as many steps."""
        if isinstance(self.objective, Consistency):
            try:
                self.objective.levels(0, self.max_train_steps)
            except ValueError as error:
                raise ValueError(f"max_train_steps: {error}") from None


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


def load_run(folder: Path) -> Run:
    """The run recorded in `folder`."""
    return strict_json.read(Run, (folder / "run.json").read_text(encoding="utf-8"))
