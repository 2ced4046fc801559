"""The paper's recipes on Stable Diffusion at their own resolution: two real steps at batch 2, stopped, gone on with, judged, sampled."""

import json

import numpy as np
import pytest
import tiny_pipeline
from console import command
from diffusers import StableDiffusionPipeline
from PIL import Image

from immref_trainers import train
from immref_trainers.metrics import tasks
from immref_trainers.samplers import priors
from immref_trainers.signals import Stop
from immref_trainers.steplog import StepLog

CLASSES = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish, Carassius auratus"}
SETTINGS = (
    *("--max-train-steps", 2, "--train-batch-size", 2, "--gradient-accumulation-steps", 1, "--mixed-precision", "no"),
    *("--evaluation.at-steps", 2, "--evaluation.num-samples", 4, "--evaluation.sampler-steps", 2, "--data.held-out", 3),
    *("--checkpoints-total-limit", 1),
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_pipeline.write(folder)
    return folder


def pixels():
    """Twelve pictures of several shapes."""
    generator = np.random.default_rng(0)
    for number in range(12):
        side = generator.integers(260, 300, size=2)
        yield f"{number:02}.png", Image.fromarray(generator.integers(0, 256, (*side, 3), dtype=np.uint8))


def class_folders(path):
    """As ImageNet's: numbers for names, and a file that tells what they are called."""
    for number, (name, image) in enumerate(pixels()):
        place = path / list(CLASSES)[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / name)
    names = path.parent / "LOC_synset_mapping.txt"
    names.write_text("".join(f"{folder} {name}\n" for folder, name in CLASSES.items()), encoding="utf-8")
    return ("--data.class-names", names)


def captioned(path):
    """One caption of some images and two of others, of which one is too long."""
    path.mkdir()
    lines = []
    for number, (name, image) in enumerate(pixels()):
        image.save(path / name)
        texts = [f"a fish on table {number}", "a fish " * 20] if number % 2 else [f"a fish on table {number}"]
        lines.append(json.dumps({"file_name": name, "text": texts}))
    (path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return ()


class Asked(Stop):
    """Somebody has pressed Ctrl-C already."""

    def __enter__(self):
        self.asked = True
        return self


@pytest.mark.parametrize(
    ("recipe", "pairing", "write"),
    [
        ("imagenet-sd-scratch", ("--pairing.method", "knn", "--pairing.k", 64), class_folders),
        ("imagenet-sd-finetune", ("--pairing.method", "linear_assignment", "--pairing.within", "label"), class_folders),
        ("coco-sd", ("--pairing.method", "linear_assignment"), captioned),
    ],
)
def test_a_recipe_trains_stops_goes_on_is_judged_sampled_and_opened(tmp_path, monkeypatch, capsys, pipeline, recipe, pairing, write):
    monkeypatch.setattr(tasks, "STEPS", 2)
    monkeypatch.setattr(tasks, "BATCH", 8)
    monkeypatch.setattr(priors, "MEASURED", 12)
    settings, folder = write(tmp_path / "data"), tmp_path / "run"
    argv = ("train", recipe, "--pipeline", pipeline, "--data.train-data-dir", tmp_path / "data", *settings, *SETTINGS, *pairing)
    with monkeypatch.context() as patch:
        patch.setattr(train, "Stop", Asked)
        assert command(monkeypatch, *argv, "--output-dir", folder) == 0
    assert (folder / "checkpoint-1").is_dir()
    assert command(monkeypatch, *argv, "--output-dir", folder, "--resume-from-checkpoint", "latest") == 0
    said = capsys.readouterr().out
    assert ("1 of 13 prompts are longer than the text encoder's 16 tokens and cut there, the first: 'a fish" in said) == (
        recipe == "coco-sd"
    )
    with StepLog(folder, 2) as log:
        assert [step.step for step in log.steps] == [1, 2]
        score = log.points[0].scores[2]
    assert np.isfinite(score.fd)
    assert -100 <= score.clip_score <= 100
    assert (score.accuracy is None) == (recipe == "coco-sd")

    prompts = json.loads((folder / "data.json").read_text(encoding="utf-8"))["prompts"]
    if recipe == "coco-sd":
        assert len(prompts) == 3
        assert all(text.startswith("a fish on table ") for text in prompts)
    else:
        assert prompts == ["a photo of a tench", "a photo of a goldfish"]
    asked = ("sample", folder, "--num-samples", 2, "--steps", 2, "--prompt", "a goldfish", "--output-dir", tmp_path / "samples")
    assert command(monkeypatch, *asked) == 0
    assert len(list((tmp_path / "samples").glob("0*.png"))) == 2
    made = StableDiffusionPipeline.from_pretrained(folder)
    assert made("a goldfish", num_inference_steps=1, output_type="np").images.shape == (1, 256, 256, 3)
