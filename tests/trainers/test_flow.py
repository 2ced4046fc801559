"""Flow matching's sampler, against a predictor that is exactly right; the network and its seed."""

import numpy as np
import pytest
import torch

from immref.exact import ExactField
from immref_trainers import recipes, streams
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.samplers import chunks, euler


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_with_the_exact_field_as_predictor_euler_is_the_exact_sampler(images, monkeypatch, scale):
    """In float64, and with times that float32 holds exactly, only rounding is left."""
    data = scale * images.train.x[:200].reshape(200, -1).astype(np.float64)
    noise = np.random.default_rng(0).standard_normal((30, *images.train.shape))
    field, steps = ExactField(data, k=4), 8
    exact = field.sample(noise.reshape(30, -1), steps)[-1] / scale

    def velocity(x_t, t_B, labels_B):
        t, z_MD = float(t_B[0]), x_t.numpy().reshape(len(x_t), -1)
        return torch.from_numpy(((field.denoise(z_MD, t, 1 - t) - z_MD) / (1 - t)).reshape(x_t.shape))

    monkeypatch.setattr(chunks, "SIZE", 7)
    ours = euler.sample(velocity, torch.from_numpy(noise), steps, scale).numpy().reshape(30, -1)
    assert np.abs(ours - exact).max() <= field_rounding(data, noise, steps) / scale


def field_rounding(data, noise, steps):
    """Each step rounds the state by eps · largest value; the posterior's softmax hands a change δ of the state on
    as at most δ · |data|² / b², and b is never below 1 / steps."""
    largest = max(np.abs(data).max(), np.abs(noise).max())
    return steps * np.finfo(np.float64).eps * largest * np.square(data).sum(axis=1).max() * steps**2


def test_the_default_network_has_its_size_and_the_seed_its_weights():
    run = recipes.find("digits-flow").run()
    with torch.device("meta"):
        network = unet.build(run.network, channels=1, side=8, seed=0)
    assert sum(weight.numel() for weight in network.parameters()) == 159_697


def test_weights_come_from_their_seed_alone():
    sizes = UNet(block_out_channels=(8,), norm_num_groups=4)

    def weights(seed):
        return torch.cat([weight.detach().flatten() for weight in unet.build(sizes, 1, 8, seed).parameters()])

    before = torch.random.get_rng_state()
    first, other = weights(streams.torch_seed(streams.WEIGHTS, 0)), weights(streams.torch_seed(streams.WEIGHTS, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(weights(streams.torch_seed(streams.WEIGHTS, 0)), first)
    assert not torch.equal(first, other)
