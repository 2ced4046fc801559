"""The networks: their sizes, what their settings change, and what a class-conditional one is told."""

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention

from immref_trainers import recipes
from immref_trainers.networks import unet
from immref_trainers.networks.settings import UNet
from immref_trainers.recipes import cifar10

RUNS = {name: recipe.run() for name, recipe in recipes.RECIPES.items()} | {run.recipe: run for run in (cifar10.ddim(), cifar10.flow())}
RUNS = {name: run for name, run in RUNS.items() if isinstance(run.network, UNet)}
IMAGES = {"digits": (1, 8, 10), "photos": (3, 16, 8), "directory": (3, 32, 10)}  # channels, side, classes; directory: as CIFAR-10
PARAMETERS = {
    "digits-flow": 159_697,
    "digits-ddim": 159_697,
    "digits-flow-classes": 160_337,
    "photos-flow": 160_275,
    "photos-ddim": 160_275,
    "cifar10-ddim": 35_746_307,
    "cifar10-flow": 35_746_307,
    "digits-consistency": 634_273,
    "cifar10-consistency": 35_746_307,
}
DDPM = {  # the form in which diffusers keeps DDPM's network for CIFAR-10
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
SIZES = UNet(block_out_channels=(8, 16, 16), norm_num_groups=4, attention_at=(1,), attention_head_dim=4)


def of_recipe(name):
    channels, side, classes = IMAGES[RUNS[name].data.dataset_name]
    with torch.device("meta"):
        return unet.build(RUNS[name].network, channels, side, seed=0, classes=classes)


def shapes(network):
    return {name: tuple(weight.shape) for name, weight in network.named_parameters()}


def attentions(network):
    return {name: module for name, module in network.named_modules() if isinstance(module, Attention)}


def output(network, t=500.0, **told):
    x = torch.from_numpy(torch.arange(2 * 3 * 8 * 8).numpy().reshape(2, 3, 8, 8) % 7 - 3.0).float()
    with torch.no_grad():
        return network(x, torch.full((2,), t), **told).sample


def test_every_recipe_s_network_has_its_size():
    assert {name: sum(weight.numel() for weight in of_recipe(name).parameters()) for name in RUNS} == PARAMETERS


@pytest.mark.parametrize("name", ["cifar10-ddim", "cifar10-flow"])
def test_on_cifar10_the_weights_are_those_of_ddpm_s_network_in_name_and_shape(name):
    with torch.device("meta"):
        assert shapes(of_recipe(name)) == shapes(UNet2DModel(**DDPM))


@pytest.mark.parametrize(("name", "heads"), [("cifar10-ddim", 1), ("cifar10-flow", 4)])
def test_on_cifar10_attention_has_the_baseline_s_heads(name, heads):
    found = attentions(of_recipe(name))
    assert len(found) == 2 + 3 + 1  # down, up, middle
    assert {(attention.heads, attention.inner_dim) for attention in found.values()} == {(heads, 256)}


def test_attention_looks_at_its_level_and_the_middle_alone():
    network, seen = unet.build(SIZES, 3, 8, seed=0), {}
    for name, attention in attentions(network).items():
        attention.register_forward_pre_hook(lambda module, given, name=name: seen.__setitem__(name, given[0].shape[-2:]))
    output(network)
    levels = {name.rpartition(".attentions")[0]: tuple(side) for name, side in seen.items()}
    assert levels == {"down_blocks.1": (4, 4), "up_blocks.1": (4, 4), "mid_block": (2, 2)}


def test_without_attention_nothing_but_convolutions_and_the_time_is_there():
    sizes = UNet(block_out_channels=(8, 16), norm_num_groups=4)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "add_attention": False}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        plain = UNet2DModel(
            sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **blocks
        )
    ours, theirs = unet.build(sizes, 3, 8, seed=5).state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dropout_is_in_every_block_and_at_work_in_training_alone():
    sizes = UNet(block_out_channels=(8,), norm_num_groups=4, dropout=0.25)
    network = unet.build(sizes, 3, 8, seed=0)
    inside = [module.p for name, module in network.named_modules() if ".resnets." in name and isinstance(module, torch.nn.Dropout)]
    assert inside == [0.25] * (1 + 2 + 2)
    assert torch.equal(output(network.eval()), output(network))
    network.train()
    assert not torch.equal(output(network), output(network))


def test_a_class_conditional_network_knows_each_label_apart():
    sizes = UNet(block_out_channels=(8,), norm_num_groups=4, class_conditional=True)
    network = unet.build(sizes, 3, 8, seed=0, classes=3)
    outputs = [output(network, class_labels=torch.full((2,), label)) for label in range(3)]
    assert len({tuple(one.flatten().tolist()) for one in outputs}) == 3
    with pytest.raises(IndexError):
        output(network, class_labels=torch.full((2,), 3))


def test_a_class_conditional_network_needs_classes():
    with pytest.raises(ValueError, match="classes must be ≥ 1 for a class-conditional network, got 0"):
        unet.build(UNet(class_conditional=True), 1, 8, seed=0)


def test_labels_of_the_images_do_not_change_a_network_that_is_not_told_any():
    assert shapes(unet.build(UNet(), 1, 8, seed=0, classes=10)) == shapes(unet.build(UNet(), 1, 8, seed=0))


def test_the_recipes_on_cifar10_have_the_paper_s_batch_and_pairings_that_can_be_planned():
    for run, pairings in ((cifar10.ddim(), cifar10.DDIM_PAIRINGS), (cifar10.flow(), cifar10.FLOW_PAIRINGS)):
        assert len(recipes.plan(run, pairings, seeds=1)) == len(pairings)
        assert run.train_batch_size == 256  # Table 3
    best = [{pairing.k for pairing in pairings if pairing.method == "knn"} for pairings in (cifar10.DDIM_PAIRINGS, cifar10.FLOW_PAIRINGS)]
    assert best == [{8}, {4}]  # Table 4
