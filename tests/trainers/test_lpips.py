"""LPIPS against plain loops over the same weights, drawn here: the published ones are not on every machine."""

import copy

import numpy as np
import pytest
import torch
from console import command
from formats import folders
from safetensors.torch import save_file

import immref
from immref_trainers.config import Consistency
from immref_trainers.networks import unet
from immref_trainers.objectives import build, distances, lpips

CONVOLUTIONS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
CONVOLUTIONS |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}  # torchvision's VGG16
ENDS = (2, 7, 14, 21, 28)  # the last convolution of each block
WIDTHS = (64, 128, 256, 512, 512)


def drawn():
    """Weights under torchvision's and lpips' names, at sizes that keep signals alive."""
    torch.manual_seed(0)
    tensors = {}
    for number, (there, here) in CONVOLUTIONS.items():
        tensors[f"features.{number}.weight"] = torch.randn(here, there, 3, 3) * (2 / (9 * there)) ** 0.5
        tensors[f"features.{number}.bias"] = torch.randn(here) / 10
    for number, width in enumerate(WIDTHS):
        tensors[f"lin{number}.model.1.weight"] = torch.rand(1, width, 1, 1)
    return tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "vgg.safetensors"
    save_file(drawn(), path)
    return str(path)


def pictures(side, seed=0):
    """Two batches in [-1, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (2, 2, 3, side, side))).float()


def by_hand(first, second):
    """The distances in the order of the paper: features, unit length over channels, squared differences weighed, means."""
    tensors, seen = drawn(), []
    for batch in (first, second):
        x, features = (batch - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), []
        for number in CONVOLUTIONS:
            if number - 3 in ENDS:
                x = torch.nn.functional.max_pool2d(x, 2, 2)
            x = torch.conv2d(x, tensors[f"features.{number}.weight"], tensors[f"features.{number}.bias"], padding=1).relu()
            if number in ENDS:
                features.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        seen.append(features)
    parts = [
        (tensors[f"lin{number}.model.1.weight"] * (one - other).square()).sum(dim=1).mean(dim=(1, 2))
        for number, (one, other) in enumerate(zip(*seen, strict=True))
    ]
    return torch.stack(parts).sum(dim=0)


def test_the_distance_is_that_of_plain_loops(weights):
    first, second = pictures(64)
    found = lpips.load(weights)(first, second)
    assert found.shape == (2,)
    assert torch.allclose(found, by_hand(first, second), rtol=1e-4)
    assert torch.all(found > 0.01)


def test_an_image_is_at_no_distance_from_itself_and_the_gradient_there_is_finite(weights):
    """Also where every feature is zero, as in a network whose biases hold everything down."""
    network = lpips.load(weights)
    silent = copy.deepcopy(network)
    for layer in silent.features:
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.fill_(-1e3)
    for one in (network, silent):
        first = pictures(64)[0].requires_grad_()
        distance = one(first, first.detach())
        distance.sum().backward()
        assert torch.equal(distance, torch.zeros(2))
        assert torch.isfinite(first.grad).all()


def test_small_images_are_enlarged_and_scaling_is_undone(weights):
    first, second = pictures(8)[:, :1]
    large = [torch.nn.functional.interpolate(x, size=(224, 224), mode="bilinear") for x in (first, second)]
    distance = distances.build(Consistency(distance="lpips", lpips_weights=weights), 2.0, first)
    assert torch.allclose(distance(2 * first, 2 * second), by_hand(*large), rtol=1e-4)


def cut(path):
    tensors = drawn()
    del tensors["features.10.bias"]
    save_file(tensors, path)


def turned(path):
    save_file(drawn() | {"lin1.model.1.weight": torch.ones(128)}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "objective.lpips_weights must be a local safetensors file with VGG16's and LPIPS' weights, and .* is no file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 a pickle"), "with VGG16's and LPIPS' weights, and .* is none: "),
        (cut, r"objective.lpips_weights must hold features\.10\.bias of shape \(256,\), and .* lacks it"),
        (turned, r"must hold lin1\.model\.1\.weight of shape \(1, 128, 1, 1\), and .* has \(128,\)"),
    ],
    ids=["nothing", "a pickle", "one tensor missing", "one of another shape"],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path, write, words):
    write(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=words):
        lpips.load(str(tmp_path / "w.safetensors"))


def test_a_missing_file_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys):
    for split in ("train", "test"):
        folders(tmp_path / "data" / split, np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8))
    settings = ("--objective.distance", "lpips", "--objective.lpips-weights", tmp_path / "none")
    argv = ("train", "cifar10-consistency", "--data.train-data-dir", tmp_path / "data", *settings, "--output-dir", tmp_path / "run")
    assert command(monkeypatch, *argv) == 2
    assert f"and {tmp_path / 'none'} is no file" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_digits_have_no_colours(monkeypatch, capsys, weights):
    argv = ("train", "digits-consistency", "--objective.distance", "lpips", "--objective.lpips-weights", weights)
    assert command(monkeypatch, *argv) == 2
    assert "objective.distance lpips needs 3 channels in [-1, 1], got 1 in" in " ".join(capsys.readouterr().err.split())


def test_a_network_learns_by_it_and_it_does_not(tiny, weights):
    x = pictures(8)[0]
    objective, network = build(Consistency(distance="lpips", lpips_weights=weights), x, 100), unet.build(tiny.network, 3, 8, seed=0)
    t_B = torch.from_numpy(objective.times(np.random.default_rng(0), len(x), 0))
    objective.loss(objective.predictor(network), immref.pair(x, immref.Vanilla(), rng=immref.Seed(0)), t_B).backward()
    slopes = [parameter.grad for parameter in network.parameters()]
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert any(slope.any() for slope in slopes)
    assert not any(parameter.requires_grad for parameter in lpips.load(weights).parameters())
