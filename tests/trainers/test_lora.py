"""Low-rank updates of a pretrained UNet: they alone are trained, kept and gone on with, and diffusers opens them in both forms."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from power_cut import QUICK
from safetensors.torch import load_file

from immref import ImageScaling
from immref_trainers import checkpoint
from immref_trainers.loop import Trainer
from immref_trainers.networks.settings import TextUNet

FACTS = {"shape": [4, 8, 8], "largest": 1.0, "low": -1.0, "high": 1.0, "classes": 10, "prompts": ["a photo of the digit one"]}


@pytest.fixture(name="run")
def low_rank(run, made):
    network = TextUNet(pipeline=str(made), weights="pretrained", prompt="a photo of the digit {}", lora_rank=2, gradient_checkpointing=True)
    return replace(run, network=network)


def state(network):
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


def test_the_first_loss_is_the_pretrained_network_s_and_its_weights_stay(digits, run, accelerator):
    whole = Trainer(replace(run, network=replace(run.network, lora_rank=0)), digits, accelerator)
    trainer = Trainer(run, digits, accelerator)
    before = state(trainer.bare)
    steps = list(trainer.steps())
    assert steps[0].loss == next(whole.steps()).loss
    after = state(trainer.bare)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "lora" in name}
    assert len(changed) == 2 * 4 * sum(name.endswith("to_q.base_layer.weight") for name in before) > 0
    assert all(2 in weight.shape for name, weight in before.items() if "lora" in name)
    assert {id(weight) for weight in trainer.average.parameters()} & {id(weight) for weight in trainer.bare.parameters()}


def test_a_checkpoint_holds_the_updates_alone_and_a_run_goes_on_from_it(digits, run, accelerator, tmp_path):
    trainer, losses = Trainer(run, digits, accelerator), []
    for step in trainer.steps():
        losses.append(step.loss)
        checkpoint.save(tmp_path, step.step, *trainer.state(), disk=QUICK)
    kept = checkpoint.load(tmp_path / "checkpoint-1")
    assert all("lora" in name for group in kept.tensors.values() for name in group)
    again = Trainer(run, digits, accelerator)
    again.restore(kept)
    assert [step.loss for step in again.steps(1)] == losses[1:]
    for ours, theirs in ((again.bare, trainer.bare), (again.average, trainer.average)):
        assert all(torch.equal(ours.state_dict()[name], weight) for name, weight in theirs.state_dict().items())


def test_diffusers_opens_the_whole_network_and_the_updates_alone(digits, run, accelerator, made, tmp_path):
    """Either predicts what the averaged network does; the pipeline without them does not."""
    trainer = Trainer(replace(run, optimizer=replace(run.optimizer, learning_rate=0.1)), digits, accelerator)
    list(trainer.steps())
    assert trainer.space.export(trainer.average, FACTS, tmp_path) is None
    x_t, t_B = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 400, 900])
    told = trainer.space.conditions(torch.tensor([1, 2, 3]))
    assert all("lora" in name for name in load_file(tmp_path / "pytorch_lora_weights.safetensors"))
    original = StableDiffusionPipeline.from_pretrained(made)
    plain = original.unet
    with torch.no_grad():
        wanted, without = trainer.average(x_t, t_B, **told).sample, plain(x_t, t_B, **told).sample
        original.load_lora_weights(tmp_path)
        added = original.unet(x_t, t_B, **told).sample
        whole = StableDiffusionPipeline.from_pretrained(tmp_path).unet
        fused = whole(x_t, t_B, **told).sample
    assert not any("lora" in name for name, _ in whole.named_parameters())
    band = (without - wanted).abs().max() / 1000
    assert band > 1e-6
    assert (added - wanted).abs().max() < band
    assert (fused - wanted).abs().max() < band


def test_updates_alone_are_not_kept_where_the_original_pipeline_would_show_them_wrongly(digits, run, accelerator, tmp_path):
    trainer = Trainer(replace(run, pairing=ImageScaling(2.0)), digits, accelerator)
    trainer.space.export(trainer.average, FACTS, tmp_path)
    assert not (tmp_path / "pytorch_lora_weights.safetensors").exists()


def test_updates_need_something_to_update():
    for rank, weights in ((-1, "pretrained"), (4, "random")):
        with pytest.raises(ValueError, match=r"network.lora_rank must be ≥ 0, and 0 where network.weights are random, got"):
            TextUNet(weights=weights, lora_rank=rank)
