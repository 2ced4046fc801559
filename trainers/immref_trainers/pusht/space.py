"""Where a policy works: on action chunks, told observations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immref_trainers import export, streams
from immref_trainers.config import Run
from immref_trainers.data.training import Images
from immref_trainers.export import Facts
from immref_trainers.networks import policy_unet
from immref_trainers.networks.settings import PolicyUNet
from immref_trainers.pusht.chunks import Demonstrated

Array = np.ndarray[Any, Any]


class PolicySpace:
    """A `spaces.Space` whose labels are observations."""

    unasked = None

    def __init__(self, run: Run, images: Images) -> None:
        assert isinstance(images.train, Demonstrated)
        self.run, self.train, self.held_out = run, images.train, images.held_out
        self.prompts: list[str] = []
        self.notes: list[str] = []

    def asked(self, count: int) -> Array:
        """Observations of held-out demonstrations, in turn."""
        return self.held_out.labels(np.arange(count) % len(self.held_out))  # type: ignore[return-value]

    def kinds(self, labels_B: Array) -> Array:
        """The observations."""
        return labels_B

    def network(self) -> torch.nn.Module:
        """Diffusion Policy's UNet, its weights drawn by the run's seed."""
        assert isinstance(self.run.network, PolicyUNet)
        observed = self.train.labels(np.arange(1)).shape[1]
        return policy_unet.build(self.run.network, self.train.shape[0], observed, streams.torch_seed(streams.WEIGHTS, self.run.seed))

    def conditions(self, labels_B: Tensor) -> dict[str, Tensor]:
        """The observations."""
        return {"observations": labels_B}

    def decode(self, samples: Tensor) -> Tensor:
        """Action chunks as they are."""
        return samples.cpu()

    def export(self, network: Any, facts: Facts, folder: Path) -> str | None:
        """The network and its scheduler; diffusers has no pipeline that pushes Ts."""
        network.save_pretrained(folder / "unet")
        export.scheduler(self.run, facts).save_pretrained(folder / "scheduler")
        limits = {
            name: {"low": limit.low.tolist(), "high": limit.high.tolist()}
            for name, limit in (("actions", self.train.actions), ("observations", self.train.observations))
        }
        (folder / "limits.json").write_text(json.dumps(limits, indent=1) + "\n", encoding="utf-8")
        return None
