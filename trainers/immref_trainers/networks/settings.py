"""Which network a run trains: plain settings that `run.json` can hold."""

from dataclasses import dataclass, field
from typing import Literal

from immref._checks import check_choice
from immref_trainers.data.settings import require


@dataclass(frozen=True)
class UNet:
    """Sizes of diffusers' UNet2DModel."""

    architecture: Literal["UNet2DModel"] = field(default="UNet2DModel", kw_only=True)
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
class PolicyUNet:
    """Sizes of Diffusion Policy's one-dimensional UNet, which is told observations at every level."""

    architecture: Literal["ConditionalUNet1D"] = "ConditionalUNet1D"
    down_dims: tuple[int, ...] = (256, 512, 1024)
    kernel_size: int = 5
    norm_num_groups: int = 8
    step_embed_dim: int = 256

    def __post_init__(self) -> None:
        dims, groups = self.down_dims, self.norm_num_groups
        require(bool(dims) and min(dims) >= 1, "network.down_dims", "be one or more numbers ≥ 1", dims)
        require(groups >= 1 and not any(dim % groups for dim in dims), "network.norm_num_groups", f"divide each of {dims}", groups)
        require(self.kernel_size >= 1 and self.kernel_size % 2 == 1, "network.kernel_size", "be odd and ≥ 1", self.kernel_size)
        require(self.step_embed_dim >= 4 and self.step_embed_dim % 2 == 0, "network.step_embed_dim", "be even and ≥ 4", self.step_embed_dim)

    @property
    def class_conditional(self) -> bool:
        """It is told observations, in the place of labels."""
        return True

    @property
    def dropout(self) -> float:
        """It has none."""
        return 0.0


@dataclass(frozen=True)
class TextUNet:
    """The UNet2DConditionModel of a Stable Diffusion pipeline, trained in the latents of its VAE and told labels by name."""

    architecture: Literal["UNet2DConditionModel"] = "UNet2DConditionModel"
    pipeline: str = ""
    """A local directory as diffusers saves it; without it, one made on the spot for the captioned digits."""
    weights: Literal["random", "pretrained"] = "random"
    """Of the UNet before the first step: drawn by the seed, or the pipeline's own."""
    prompt: str | None = "a photo of a {}"
    """What a label is told as, with its name for {}; None tells each image's own caption."""
    synonyms: Literal["first", "all"] = "first"
    """Of a name that is a list, 'tench, Tinca tinca': what stands before the comma, or the whole line."""
    caption_dropout: float = 0.0
    """Share of images whose prompt is left out in training: without some, samples should not be guided."""
    gradient_checkpointing: bool = False
    """Computes activations twice to save memory."""
    latent_cache: str | None = None
    """A directory for the VAE's latents, made by the first run and checked by every other; small data are kept in memory instead."""
    lora_rank: int = 0
    """Trains low-rank updates of the pretrained attention alone (LoRA), of this rank; 0 trains every weight."""

    def __post_init__(self) -> None:
        check_choice(self.weights, "network.weights", ("random", "pretrained"))
        prompt = self.prompt
        require(prompt is None or prompt.count("{}") == 1, "network.prompt", "have one {}, in place of the name", repr(prompt))
        check_choice(self.synonyms, "network.synonyms", ("first", "all"))
        require(0 <= self.caption_dropout < 1, "network.caption_dropout", "be in [0, 1)", self.caption_dropout)
        wanted = "be ≥ 0, and 0 where network.weights are random"
        require(self.lora_rank >= 0 and not (self.lora_rank and self.weights == "random"), "network.lora_rank", wanted, self.lora_rank)

    @property
    def class_conditional(self) -> bool:
        """It is told labels, as prompts."""
        return True

    @property
    def dropout(self) -> float:
        """Stable Diffusion's networks have none."""
        return 0.0
