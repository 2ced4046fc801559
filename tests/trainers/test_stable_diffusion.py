"""Stable Diffusion in small: a real pipeline's directory, trained in, gone on with, exported, and opened where this package is not."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from power_cut import QUICK
from rich.console import Console
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import immref
from immref import KNN, ImageScaling, LinearAssignment
from immref_trainers import checkpoint, evaluation, sample, samplers, spaces, strict_json
from immref_trainers.config import Sampler
from immref_trainers.data import prompts
from immref_trainers.loop import Trainer
from immref_trainers.networks.settings import TextUNet
from immref_trainers.samplers import priors
from immref_trainers.stable_diffusion import offline, pipeline
from immref_trainers.stable_diffusion.latents import Latents

CPU = torch.device("cpu")
PROMPT = "a photo of the digit {}"


# the pipeline made on the spot


def test_digits_are_enlarged_between_their_pixels(digits):
    """As torch enlarges them; every one is there, grey."""
    small = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    large = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    x = np.concatenate([digits.train.images(np.arange(len(digits.train))), digits.held_out.images(np.arange(len(digits.held_out)))])
    assert x.shape == (1797, 3, 16, 16)
    assert np.array_equal(x[:, 0], x[:, 1])
    assert np.array_equal(x[:, 0], x[:, 2])
    ours, theirs = (np.unique(images.reshape(1797, -1).round(4), axis=0) for images in (x[:, :1], large.numpy()))
    assert np.allclose(ours, theirs, atol=1e-5)


def test_every_byte_has_a_token_and_words_come_back(made):
    tokenizer = CLIPTokenizer.from_pretrained(made / "tokenizer")
    for text in ("a photo of the digit three", "ünïcode 漢字", "a zebra"):
        tokens = tokenizer(text)["input_ids"]
        assert tokens[0] == tokenizer.bos_token_id
        assert tokens[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in tokens[1:-1]
        assert tokenizer.decode(tokens, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert len(tokenizer("a photo of the digit three")["input_ids"]) == 8


def test_the_text_encoder_is_that_of_its_clip(made):
    clip, pipe = CLIPModel.from_pretrained(made / "clip"), StableDiffusionPipeline.from_pretrained(made)
    tokens = torch.as_tensor(pipe.tokenizer(["a photo of the digit one", ""], padding="max_length")["input_ids"])
    with torch.no_grad():
        assert torch.equal(pipe.text_encoder(tokens)[0], clip.text_model(tokens)[0])


def test_the_scaling_factor_makes_latents_of_unit_deviation(made, digits, run):
    latents = spaces.of_run(run, digits, CPU).train.images(np.arange(500))
    assert latents.shape == (500, 4, 8, 8)
    assert latents.std() == pytest.approx(1.0, rel=1e-4)


def test_it_is_made_once(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make(folder, *_):
        folder.mkdir(parents=True)
        made.append(folder)

    monkeypatch.setattr(offline, "make", make)
    settings = TextUNet(prompt=PROMPT)
    first = pipeline.made_on_the_spot(settings, digits)
    assert pipeline.made_on_the_spot(settings, digits) == first
    assert [path.name for path in (tmp_path / "immref").iterdir()] == [first.name]
    assert pipeline.made_on_the_spot(replace(settings, prompt="{}"), digits) != first
    assert len(made) == 2


# latents and words


def test_latents_are_drawn_by_seed_epoch_and_index_alone(digits, run):
    source, index = spaces.of_run(run, digits, CPU).train, np.asarray([5, 3, 9])
    epochs = np.asarray([0, 0, 1])
    drawn = source.images(index, epochs)
    assert np.allclose(source.images(index[::-1], epochs[::-1])[::-1], drawn, atol=1e-6)
    assert np.allclose(source.images(index[1:2], epochs[1:2])[0], drawn[1], atol=1e-6)
    other = spaces.of_run(replace(run, seed=1), digits, CPU).train
    for differing in (source.images(index, epochs + 1), other.images(index, epochs), source.images(index)):
        assert not np.allclose(differing, drawn, atol=1e-6)


def test_latents_are_the_posterior_s(digits, run):
    """Its mean; and deviations that are standard normal: mean square of 64,000 numbers, six standard errors."""
    space = spaces.of_run(run, digits, CPU)
    index = np.arange(250)
    with torch.no_grad():
        posterior = space.parts.vae.encode(torch.from_numpy(digits.train.images(index))).latent_dist
    factor = space.parts.scaling_factor
    assert np.allclose(space.train.images(index), (posterior.mean * factor).numpy(), atol=1e-5)
    noise = (space.train.images(index, np.zeros(250, dtype=int)) / factor - posterior.mean.numpy()) / posterior.std.numpy()
    assert abs(np.square(noise).mean() - 1) < 6 * np.sqrt(2 / noise.size)


def test_a_label_is_told_as_its_prompt_and_none_as_the_empty_one(digits, run):
    space = spaces.of_run(run, digits, CPU)
    parts = space.parts
    told = space.conditions(torch.tensor([3, space.unasked]))["encoder_hidden_states"]
    tokens = torch.as_tensor(parts.tokenizer(["a photo of the digit three", ""], padding="max_length")["input_ids"])
    with torch.no_grad():
        assert torch.allclose(told, parts.text_encoder(tokens)[0], atol=1e-6)


def test_prompts_are_left_out_at_the_rate_asked_for_and_pairing_still_sees_the_labels(digits, run, accelerator, monkeypatch):
    run = replace(run, pairing=LinearAssignment(within="label"))
    trainer, labels = Trainer(run, digits, accelerator), np.arange(10_000) % 10
    told = trainer._told(labels, 0).numpy()
    left_out = told == trainer.space.unasked
    assert np.array_equal(told[~left_out], labels[~left_out])
    assert abs(left_out.mean() - 0.2) < 6 * np.sqrt(0.2 * 0.8 / 10_000)
    assert np.array_equal(told, trainer._told(labels, 0).numpy())
    assert not np.array_equal(told, trainer._told(labels, 1).numpy())
    seen, plain = [], immref.pair
    monkeypatch.setattr(immref, "pair", lambda *given, group, rng: seen.append(group) or plain(*given, group=group, rng=rng))
    next(trainer.steps())
    assert seen[0].max() <= 9


@pytest.mark.parametrize(
    ("pairing", "scope"),
    [
        (KNN(k=64), "batch"),
        (LinearAssignment(), "batch"),
        (LinearAssignment(), "window"),
        (LinearAssignment(within="label"), "window"),
        (ImageScaling(2.0), "batch"),
    ],
    ids=str,
)
def test_every_latent_is_told_its_own_prompt(digits, run, accelerator, monkeypatch, pairing, scope):
    """Whatever the pairing moves: each latent that reaches the loss is one image's, the posterior's mean, and so is its label."""
    monkeypatch.setattr(Latents, "_noise", lambda self, *_: np.float32(0))
    run = replace(run, pairing=pairing, assignment_scope=scope, gradient_accumulation_steps=3)
    trainer, seen = Trainer(replace(run, network=replace(run.network, caption_dropout=0.0)), digits, accelerator), []
    plain = trainer.objective.loss
    object.__setattr__(trainer.objective, "loss", lambda *given, **named: seen.append(given[1:4]) or plain(*given, **named))
    list(trainer.steps())
    latents, labels = trainer.space.train.images(np.arange(len(digits.train))).reshape(len(digits.train), -1), digits.train.y
    for paired, _, labels_B in seen:
        x = paired.x.reshape(len(paired.x), -1).numpy() / pairing.scale
        own = np.square(x[:, None] - latents).sum(axis=2).argmin(axis=1)
        assert np.array_equal(labels_B, labels[own])
        assert not np.array_equal(labels_B.roll(1), labels[own])
    assert len(seen) == 9


def test_guidance_goes_beyond_what_is_predicted_unasked():
    def predict(x_t, t_B, labels_B):
        return x_t + 10.0 * labels_B[:, None] + t_B[:, None]

    x, t, labels = torch.zeros(3, 2), torch.ones(3), torch.tensor([1, 2, 0])
    found = samplers.guided(predict, 3.0, 5)(x, t, labels)
    assert torch.equal(found, (1 + 50.0 + 3 * 10.0 * (labels - 5))[:, None].expand(3, 2))
    assert samplers.guided(predict, 1.0, 5) is predict


# training


def flat(network):
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_weights_are_drawn_or_the_pipeline_s_own_and_start_at_its_loss(digits, run, accelerator, made):
    """The loss of the first step is the pretrained network's on the same batch, worked out with diffusers' own objects."""
    pretrained = replace(run, network=replace(run.network, weights="pretrained", caption_dropout=0.0))
    trainer = Trainer(pretrained, digits, accelerator)
    pipe = StableDiffusionPipeline.from_pretrained(made)
    assert torch.equal(flat(trainer.bare), flat(pipe.unet))
    drawn = [flat(Trainer(replace(run, seed=seed), digits, accelerator).bare) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], flat(pipe.unet))
    assert drawn[0].shape == flat(pipe.unet).shape

    batch = []
    plain = trainer.objective.loss
    object.__setattr__(trainer.objective, "loss", lambda *given, **named: batch.append(given[1:4]) or plain(*given, **named))
    step = next(trainer.steps())
    paired, t_B, labels_B = batch[0]
    words = [PROMPT.format(digits.names[label]) for label in labels_B.tolist()]
    tokens = torch.as_tensor(pipe.tokenizer(words, padding="max_length")["input_ids"])
    with torch.no_grad():
        x_t = pipe.scheduler.add_noise(paired.x, paired.noise, t_B)
        predicted = pipe.unet(x_t, t_B, encoder_hidden_states=pipe.text_encoder(tokens)[0]).sample
    assert step.loss == pytest.approx(float(torch.nn.functional.mse_loss(predicted, paired.noise)), rel=1e-4)


@pytest.mark.parametrize("pairing", [KNN(k=64), LinearAssignment(within="label"), ImageScaling(2.0)], ids=str)
def test_a_run_goes_on_from_any_step_as_if_nothing_had_happened(digits, run, accelerator, tmp_path, pairing):
    run = replace(run, pairing=pairing, network=replace(run.network, gradient_checkpointing=True))
    trainer, losses = Trainer(run, digits, accelerator), []
    for step in trainer.steps():
        losses.append(step.loss)
        checkpoint.save(tmp_path, step.step, *trainer.state(), disk=QUICK)
    for done in (1, 2):
        again = Trainer(run, digits, accelerator)
        again.restore(checkpoint.load(tmp_path / f"checkpoint-{done}"))
        assert [step.loss for step in again.steps(done)] == losses[done:]
        assert torch.equal(flat(again.bare), flat(trainer.bare))


def facts_of(run, digits):
    """What data.json tells of the digits."""
    told = {"prompts": prompts.of_labels(run.network, digits.names)}
    return {"shape": [4, 8, 8], "largest": 1.0, "low": -1.0, "high": 1.0, "classes": 10} | told


PROGRAM = """
import json, sys
sys.modules.update(immref=None, immref_trainers=None)
import numpy as np, torch
from diffusers import StableDiffusionPipeline
torch.set_num_threads(1)
for folder in json.loads(sys.argv[1]):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    given = np.load(folder + "/given.npz")
    prompts = [str(prompt) for prompt in given["prompts"]]
    made = pipeline(prompts, latents=torch.from_numpy(given["noise"]), num_inference_steps=5, guidance_scale=2.0, output_type="np").images
    np.save(folder + "/made.npy", made)
"""


def test_a_finished_run_makes_the_same_images_in_diffusers_alone(digits, run, accelerator, tmp_path):
    """Both spacings, and a run whose image scaling its VAE undoes."""
    kinds = {
        "trailing": run,
        "leading": replace(run, sampler=Sampler("ddim", guidance_scale=2.0)),
        "scaled": replace(run, pairing=ImageScaling(2.0)),
    }
    ours, noise, labels = {}, priors.gaussian((4, 4, 8, 8), 0), np.asarray([3, 0, 7, 7])
    for name, kind in kinds.items():
        trainer, folder = Trainer(kind, digits, accelerator), tmp_path / name
        facts = facts_of(run, digits)
        assert trainer.space.export(trainer.average, facts, folder) is None
        ours[name] = evaluation.sample(trainer, (noise, labels), 5)
        np.savez(folder / "given.npz", noise=noise, prompts=[PROMPT.format(digits.names[label]) for label in labels])
    argv = [sys.executable, "-c", PROGRAM, json.dumps([str(tmp_path / name) for name in kinds])]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    for name, images in ours.items():
        made = np.load(tmp_path / name / "made.npy").transpose(0, 3, 1, 2)
        assert np.abs(made - (images / 2 + 0.5).clip(0, 1)).max() < 1e-3, name


def test_sample_reads_the_folder_alone(digits, run, accelerator, tmp_path):
    """The prompts, the guidance and the scaling of the run."""
    run, folder = replace(run, pairing=ImageScaling(2.0)), tmp_path / "run"
    trainer = Trainer(run, digits, accelerator)
    facts = facts_of(run, digits)
    trainer.space.export(trainer.average, facts, folder)
    (folder / "run.json").write_text(strict_json.to_json(run), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "prior.safetensors").write_bytes(b"")
    settings = sample.Settings(num_samples=3, label=4, steps=3, output_dir=tmp_path / "out")
    sample.sample(folder, settings, CPU, Console(quiet=True))
    found = load_file(tmp_path / "out" / "samples.safetensors")["samples"]
    assert found.shape == (3, 3, 16, 16)
    wanted = evaluation.sample(trainer, (priors.gaussian((3, 4, 8, 8), 0), np.asarray([4, 4, 4])), 3)
    assert np.abs(found - wanted).max() < 1e-5


def test_a_network_of_the_size_of_v1_4():
    """Built on the meta device; the pipeline's unet has 859,520,964 parameters, as its model card's 860 M says."""
    meta = torch.device("meta")
    with meta:
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))
    assert sum(weight.numel() for weight in unet.parameters()) == 859_520_964
    assert sum(weight.numel() for weight in text.parameters()) == 123_060_480
    assert unet(
        torch.empty(2, 4, 32, 32, device="meta"),
        torch.zeros(2, device="meta"),
        text(torch.zeros(2, 77, dtype=torch.int64, device="meta"))[0],
    ).sample.shape == (2, 4, 32, 32)
