"""In- and out-painting: what is known stays, nothing of what is missing is seen, and diffusers' pipeline makes the same images."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from console import command
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image

from immref import ImageScaling, Vanilla
from immref_trainers import finished, recipes
from immref_trainers.config import Sampler
from immref_trainers.edit import repair
from immref_trainers.finished import Model
from immref_trainers.loop import Trainer
from immref_trainers.metrics import features
from immref_trainers.samplers import priors

CPU = torch.device("cpu")
KEPT = {"encode": lambda x: x, "decode": lambda x: x}


def drawn(text):
    return np.asarray([[letter == "#" for letter in row] for row in text.split()])


@pytest.mark.parametrize(
    ("task", "height", "width", "centre", "wanted"),
    [
        ("inpaint", 4, 4, 0.5, ".... .##. .##. ...."),
        ("outpaint", 4, 4, 0.5, "#### #..# #..# ####"),
        ("inpaint", 4, 6, 0.5, "...... .###.. .###.. ......"),
        ("inpaint", 2, 2, 0.99, "#. .."),
        ("outpaint", 3, 3, 0.01, "### #.# ###"),
    ],
)
def test_the_centre_is_missing_or_all_but_the_centre(task, height, width, centre, wanted):
    assert np.array_equal(repair.missing_part(task, height, width, centre), drawn(wanted))


def test_nothing_of_what_is_missing_is_seen(images):
    x, missing = images.held_out.images(np.arange(20)), repair.missing_part("outpaint", 8, 8, 0.5)
    hollow = repair.emptied(x, missing, 0)
    assert np.array_equal(hollow[..., ~missing], x[..., ~missing])
    assert np.array_equal(hollow, repair.emptied(np.where(missing, 7, x), missing, 0))
    assert not np.array_equal(hollow[..., missing], repair.emptied(x, missing, 1)[..., missing])
    noise = hollow[..., missing]
    assert abs(np.square(noise).mean() - 1) < 6 * np.sqrt(2 / noise.size)


def test_a_pixel_of_a_latent_is_missing_where_any_of_its_pixels_is(made, run):
    model = finished.model(replace(run, pairing=Vanilla()), made, ("a",), CPU)
    missing = np.zeros((16, 16), dtype=bool)
    missing[3, 4] = missing[15, 15] = True
    known = repair.known_part(model, run, np.zeros((1, 3, 16, 16), dtype=np.float32), missing)
    assert np.argwhere(known.missing.numpy()).tolist() == [[1, 2], [7, 7]]


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("passes", [0, 1, 3])
def test_a_network_that_knows_the_image_repairs_it(scale, passes):
    """And one that knows another image keeps the known part, to the last bit where it is blended."""
    run = replace(recipes.find("digits-ddim").run(), pairing=ImageScaling(scale), sampler=Sampler("ddim"), train_batch_size=4)
    rng = np.random.default_rng(0)
    x, other = (torch.from_numpy(rng.standard_normal((10, 1, 8, 8), dtype=np.float32)) for _ in range(2))
    alpha_bar = run.objective.alpha_bar()
    missing = torch.from_numpy(repair.missing_part("inpaint", 8, 8, 0.5))

    def knowing(image):
        def predict(x_t, t_B, labels_B):
            first = int(labels_B[0])
            a, b = np.sqrt(alpha_bar[int(t_B[0])]), np.sqrt(1 - alpha_bar[int(t_B[0])])
            return (x_t - a * scale * image[first : first + len(x_t)]) / b

        return Model(predict, **KEPT)

    noise, labels = torch.from_numpy(priors.gaussian((10, 1, 8, 8), 0)), torch.arange(10)
    known = repair.Known(scale * torch.where(missing, 9.0, x), missing)

    def mended(model):
        if passes:
            return repair.resampled(model, run, known, noise, labels, 20, passes, 0)
        return repair.repaired(model, run, known, noise, labels, 20, 1.0)

    assert torch.allclose(mended(knowing(x)), x, atol=2e-3)
    wrong = mended(knowing(other))
    assert torch.allclose(wrong, torch.where(missing, other, x), atol=2e-3)
    if not passes:
        assert torch.equal(wrong[..., ~missing], (scale * x / scale)[..., ~missing])


def test_diffusers_pipeline_repairs_a_run_s_images_alike(digits, run, accelerator, tmp_path):
    """Given the same latents of what is known: it would otherwise encode the whole image, what is missing included."""
    trainer = Trainer(run, digits, accelerator)
    trainer.space.export(trainer.average, {"largest": 1.0}, tmp_path)
    texts = tuple(trainer.space.prompts)
    model = finished.model(run, tmp_path, texts, CPU)
    x, labels = digits.held_out.images(np.arange(4)), digits.held_out.labels(np.arange(4))
    missing = repair.missing_part("outpaint", 16, 16, 0.5)
    known = repair.known_part(model, run, repair.emptied(x, missing, 0), missing)
    noise = torch.from_numpy(priors.gaussian((4, 4, 8, 8), 0))
    ours = repair.repaired(model, run, known, noise, torch.from_numpy(labels), 5, 1.0).numpy()

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path, safety_checker=None, feature_extractor=None)
    pipeline.set_progress_bar_config(disable=True)
    mask = torch.from_numpy(missing).float().expand(4, 1, 16, 16)
    given = {"latents": noise, "num_inference_steps": 5, "guidance_scale": run.sampler.guidance_scale, "strength": 1.0, "output_type": "np"}
    words = [texts[label] for label in labels]
    kept = {"image": known.x, "masked_image_latents": known.x}
    theirs = pipeline(words, **kept, mask_image=mask, height=16, width=16, **given).images.transpose(0, 3, 1, 2)
    assert np.abs(theirs - (ours / 2 + 0.5).clip(0, 1)).max() < 2e-3


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """Two finished runs of a tiny digits-ddim in a folder."""
    monkeypatch.setattr(features, "STEPS", 10)
    monkeypatch.setattr(priors, "MEASURED", 256)
    argv = ("train", "digits-ddim", "--network.block-out-channels", 8, "--network.norm-num-groups", 4, "--evaluation.sampler-steps", 2)
    short = ("--max-train-steps", 2, "--evaluation.at-steps", 2, "--evaluation.num-samples", 40, "--evaluation.temperatures", 0.9)
    for name, pairing in {"vanilla-seed0": (), "knn-seed0": ("--pairing.method", "knn", "--pairing.k", 4)}.items():
        assert command(monkeypatch, *argv, *short, *pairing, "--output-dir", tmp_path / "runs" / name) == 0
    return tmp_path / "runs"


def test_a_comparison_s_runs_are_set_side_by_side(comparison, tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "edit", comparison, "--num-images", 40, "--output-dir", tmp_path / "edit") == 0
    said = capsys.readouterr().out
    assert "In-painting: the centre is missing" in said
    assert "Out-painting: all but the centre is missing" in said
    record = json.loads((tmp_path / "edit" / "edit.json").read_text(encoding="utf-8"))
    assert record["count"] == 40
    assert [(row["task"], row["pairing"]["method"]) for row in record["rows"]] == [
        (task, method) for task in ("inpaint", "outpaint") for method in ("vanilla", "knn")
    ]
    for row in record["rows"]:
        assert row["kept"] < 1e-6  # pixels, unlike latents, are kept as they are
        assert row["raw"]["fd"] == pytest.approx(row["composited"]["fd"], rel=1e-4)
        assert row["raw"]["fd"] > record["originals"]["fd"]
    for task in ("inpaint", "outpaint"):
        with Image.open(tmp_path / "edit" / f"{task}.png") as picture:
            assert picture.size[0] > 500
        assert len(list((tmp_path / "edit" / "vanilla-seed0" / task).glob("*.png"))) == 40


def test_what_cannot_be_repaired_is_said_in_a_sentence(comparison, tmp_path, monkeypatch, capsys):
    def refusal(*argv):
        assert command(monkeypatch, "edit", *argv) == 2
        return capsys.readouterr().err

    run = comparison / "vanilla-seed0"
    assert "edit needs the folders of finished runs" in refusal()
    assert "is not the folder of a finished run: it lacks run.json" in refusal(tmp_path)
    assert "centre must be in (0, 1), got 1.0" in refusal(run, "--centre", 1.0)
    assert "resample must be ≥ 0, got -1" in refusal(run, "--resample", -1)
    assert "resample needs runs that predict epsilon and do not clip samples" in refusal(run, "--resample", 2)
    assert "steps must lie in [1, 1000]" in refusal(run, "--steps", 2000)

    def other(name, **changes):
        shutil.copytree(run, tmp_path / name)
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        for key, value in changes.items():
            record[key] |= value
        (tmp_path / name / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return tmp_path / name

    assert "runs must have the same data, got digits and digits with other settings" in refusal(run, other("data", data={"held_out": 300}))
    flow = {"method": "flow", "prediction": "velocity"}, {"method": "euler", "timestep_spacing": "leading", "clip_sample": False}
    assert "edit needs runs sampled by ddim, got euler" in refusal(other("flow", objective=flow[0], sampler=flow[1]))
