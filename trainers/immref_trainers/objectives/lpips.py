"""LPIPS (Zhang et al. 2018) on VGG16: distances of unit-length features, weighed by learned numbers, from a local weights file."""

from pathlib import Path

import torch
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


def load(path: str) -> LPIPS:
    """LPIPS with the weights in a local safetensors file.

    torchvision's names for VGG16 (features.0.weight …) and lpips' for its layers (lin0.model.1.weight (1, C, 1, 1) …).

    Raises
    ------
    FileNotFoundError, ValueError
        Where there is no such file, or it does not hold these tensors.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"objective.lpips_weights must be a local safetensors file with VGG16's and LPIPS' weights, {path} is none")
    tensors = load_file(path)
    renamed = {f"lin{number}.model.1.weight": f"lin.{number}" for number in range(len(BLOCKS))}
    state = {renamed.get(name, name): tensor.flatten() if name in renamed else tensor for name, tensor in tensors.items()}
    network = LPIPS().requires_grad_(False).eval()
    wanted = dict(network.named_parameters())
    for name, parameter in wanted.items():
        theirs = next((old for old, new in renamed.items() if new == name), name)
        if name not in state or state[name].shape != parameter.shape:
            found = "lacks it" if name not in state else f"has {tuple(state[name].shape)}"
            raise ValueError(f"objective.lpips_weights must hold {theirs} of shape {tuple(parameter.shape)}, {path} {found}")
    network.load_state_dict({name: state[name] for name in wanted}, strict=False)
    return network
