"""LPIPS (Zhang et al. 2018) on VGG16: distances of unit-length features, weighed by learned numbers, from a local weights file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG16's convolutions; features are taken after each
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's colours, for images in [-1, 1]
LEAST, SIDE = 64, 224  # smaller images are enlarged, as the consistency models' authors do
TINY = 1e-10


class LPIPS(nn.Module):
    """Two batches (B, 3, H, W) in [-1, 1] → distances (B,)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, self.taps = 3, list[int]()
        for number, widths in enumerate(BLOCKS):
            layers += [nn.MaxPool2d(2)] if number else []
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.lin = nn.ParameterList(torch.empty(widths[-1]) for widths in BLOCKS)
        self.shift, self.scale = (nn.Buffer(torch.tensor(numbers)[:, None, None]) for numbers in (SHIFT, SCALE))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,)."""
        x = (torch.cat([first, second]) - self.shift) / self.scale
        if x.shape[-1] < LEAST:
            x = nn.functional.interpolate(x, size=(SIDE, SIDE), mode="bilinear")
        distance = x.new_zeros(len(first))
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                one, other = (x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + TINY)).chunk(2)
                weights = self.lin[self.taps.index(number)]
                distance = distance + torch.einsum("bchw,c->bhw", (one - other).square(), weights).mean(dim=(1, 2))
        return distance


def load(path: str | None) -> LPIPS:
    """LPIPS with the weights in a local safetensors file.

    torchvision's names for VGG16 (features.0.weight …) and lpips' for its layers (lin0.model.1.weight (1, C, 1, 1) …).

    Raises
    ------
    ValueError
        Where there is no such file, or it does not hold these tensors.
    """
    wanted = "objective.lpips_weights must be a local safetensors file with VGG16's and LPIPS' weights"
    if path is None or not Path(path).is_file():
        raise ValueError(f"{wanted}, and {path} is no file")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{wanted}, and {path} is none: {error}") from None
    network = LPIPS().requires_grad_(False).eval()
    state = {}
    for name, parameter in network.named_parameters():
        layer = name.removeprefix("lin.")
        theirs, shape = (name, parameter.shape) if layer == name else (f"lin{layer}.model.1.weight", (1, len(parameter), 1, 1))
        if theirs not in tensors or tensors[theirs].shape != shape:
            found = "lacks it" if theirs not in tensors else f"has {tuple(tensors[theirs].shape)}"
            raise ValueError(f"objective.lpips_weights must hold {theirs} of shape {tuple(shape)}, and {path} {found}")
        state[name] = tensors[theirs].reshape(parameter.shape)
    network.load_state_dict(state, strict=False)
    return network
