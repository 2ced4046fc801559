"""Prompts of labels and captions of images: which are told, which are refused, and how they read to CLIP."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_pipeline
import torch
from formats import folders, table
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from immref import LinearAssignment
from immref_trainers import recipes, spaces
from immref_trainers.data import directory, prompts, training
from immref_trainers.data.settings import Directory
from immref_trainers.metrics.clip import Clip
from immref_trainers.networks.settings import TextUNet

CPU = torch.device("cpu")
CAPTIONS = TextUNet(prompt=None)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_pipeline.write(folder)
    return folder


def captioned(path, captions):
    """Images of 16×16, black but for their number; a caption or a list of each."""
    for row, _ in enumerate(captions):
        path.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), row, dtype=np.uint8)).save(path / f"{row:02}.png")
    lines = [json.dumps({"file_name": f"{row:02}.png", "text": text}) for row, text in enumerate(captions)]
    (path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return directory.load(Directory(train_data_dir=str(path), held_out=2), 0, 1, None)


def number_of(source, index):
    """The number that `captioned` painted an image with."""
    return round((float(source.images(np.asarray([index]))[0, 0, 0, 0]) + 1) * 127.5)


# captions


def test_captions_stay_with_their_images(tmp_path):
    own = [[f"image {row}", f"picture {row}", "a picture"] if row % 2 else [f"image {row}"] for row in range(9)]
    images = captioned(tmp_path / "data", own)
    told = prompts.of_images(CAPTIONS, images)
    assert len(set(told.texts)) == len(told.texts) == 9 + 4 + 1
    for source, captions in ((images.train, told.train), (images.held_out, told.held_out)):
        for index in range(len(source)):
            row = number_of(source, index)
            drawn = {told.texts[captions.drawn(0, np.asarray([index]), np.asarray([epoch]))[0]] for epoch in range(60)}
            assert drawn == set(own[row])
            assert told.texts[captions.drawn(0, np.asarray([index]), None)[0]] == f"image {row}"


def test_the_caption_of_an_epoch_is_drawn_by_seed_epoch_and_index_alone():
    captions = prompts.Captions(np.arange(0, 505, 5), np.arange(500))
    index, epoch = np.arange(100), np.full(100, 3)
    drawn = captions.drawn(0, index, epoch)
    assert np.array_equal(captions.drawn(0, index[::-1], epoch)[::-1], drawn)
    for other in (captions.drawn(1, index, epoch), captions.drawn(0, index, epoch + 1)):
        assert 0.5 < (other != drawn).mean() < 0.97
    places = np.bincount(np.concatenate([captions.drawn(0, index, np.full(100, number)) % 5 for number in range(40)]), minlength=5)
    assert np.all(np.abs(places - 800) < 6 * np.sqrt(4000 * 0.2 * 0.8))


@pytest.mark.parametrize(
    ("captions", "words"),
    [
        (["one", " ", "three", None], r"every image must have a caption, a text or a list of texts; 2 have none, the first 01.png"),
        (["one", "two", "three", ""], r"1 have none, the first 03.png"),
    ],
)
def test_an_image_without_a_caption_is_named(tmp_path, captions, words):
    with pytest.raises(ValueError, match=words):
        prompts.of_images(CAPTIONS, captioned(tmp_path / "data", captions))


def test_an_empty_list_is_no_caption(tmp_path):
    with pytest.raises(ValueError, match=r"1 have none, the first 02.png"):
        prompts.of_images(CAPTIONS, captioned(tmp_path / "data", [["one"], ["two", "zwei"], [], ["four"]]))


def test_images_without_captions_are_refused_where_captions_are_told(tmp_path):
    images = directory.load(Directory(train_data_dir=str(folders(tmp_path)), held_out=2), 0, 1, None)
    with pytest.raises(ValueError, match=r"network.prompt None needs images with captions, and these have none; see data.caption_column"):
        prompts.of_images(CAPTIONS, images)


def test_captions_are_no_labels_to_pair_within():
    with pytest.raises(ValueError, match=r"pairing.within must be batch where each image has a caption of its own, got label"):
        replace(recipes.find("coco-sd").run(), pairing=LinearAssignment(within="label"))


def test_captions_too_many_to_hold_are_encoded_when_they_are_told(pipeline, tmp_path, monkeypatch):
    """The same hidden states, and a network that learns from them."""
    from immref_trainers.stable_diffusion import latents

    images = captioned(tmp_path / "data", [f"a fish on table {row}" for row in range(6)])
    run = replace(recipes.find("coco-sd").run(), network=TextUNet(pipeline=str(pipeline), prompt=None))
    held = spaces.of_run(run, images, CPU)
    monkeypatch.setattr(latents, "HELD", 2)
    told = spaces.of_run(run, images, CPU)
    labels = torch.tensor([3, 0, told.unasked])
    one, other = (space.conditions(labels)["encoder_hidden_states"] for space in (held, told))
    assert torch.allclose(one, other, atol=1e-6)
    network = told.network()
    network(torch.zeros(3, 4, 2, 2), 5, encoder_hidden_states=other).sample.sum().backward()


def test_captions_that_are_alike_are_one_kind(pipeline, tmp_path, monkeypatch):
    """By which it is measured whether noise tells them apart; labels are kinds already."""
    from immref_trainers.stable_diffusion import latents

    monkeypatch.setattr(latents, "GROUPS", 2)
    images = captioned(tmp_path / "data", [["a red bus in the street", "two fish"][row % 2] + " ." * (row // 8) for row in range(16)])
    space = spaces.of_run(replace(recipes.find("coco-sd").run(), network=TextUNet(pipeline=str(pipeline), prompt=None)), images, CPU)
    own = space.train.labels(np.arange(14), np.zeros(14, dtype=np.int64))
    fish = np.asarray(["fish" in space.texts[number] for number in own])
    kinds = space.kinds(own)
    assert set(kinds[fish]) | set(kinds[~fish]) == {0, 1}
    assert len(set(kinds[fish])) == len(set(kinds[~fish])) == 1


def test_held_out_captions_are_asked_for_in_turn(pipeline, tmp_path):
    images = captioned(tmp_path / "data", [f"a fish on table {row}" for row in range(6)])
    space = spaces.of_run(replace(recipes.find("coco-sd").run(), network=TextUNet(pipeline=str(pipeline), prompt=None)), images, CPU)
    wanted = [f"a fish on table {number_of(images.held_out, index)}" for index in (0, 1)]
    assert space.prompts == wanted
    assert [space.texts[number] for number in space.asked(5)] == [*wanted, *wanted, wanted[0]]


# names of labels


@pytest.mark.parametrize(("synonyms", "wanted"), [("first", "a tench"), ("all", "a tench, Tinca {} tinca")])
def test_a_prompt_holds_the_first_name_or_all(synonyms, wanted):
    settings = TextUNet(prompt="a {}", synonyms=synonyms)
    assert prompts.of_labels(settings, ("tench, Tinca {} tinca", "cow")) == (wanted, "a cow")


def test_class_folders_are_called_by_their_names_or_by_a_file(tmp_path):
    settings = Directory(train_data_dir=str(folders(tmp_path / "data")), held_out=2)
    assert directory.load(settings, 0, 1, None).names == ("ant", "bee", "cow")
    file = tmp_path / "names.txt"
    file.write_text("cow die Kuh, cattle\nant Ameise\n\nbee Biene\nyak Yak\n", encoding="utf-8")
    assert directory.load(replace(settings, class_names=str(file)), 0, 1, None).names == ("Ameise", "Biene", "die Kuh, cattle")
    file.write_text("cow Kuh\nant\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"data.class_names must name every class, .*names.txt lacks 2 of 3, the first ant"):
        directory.load(replace(settings, class_names=str(file)), 0, 1, None)
    with pytest.raises(ValueError, match=r"data.class_names must be a text file, .*nowhere.txt does not exist"):
        directory.load(replace(settings, class_names=str(tmp_path / "nowhere.txt")), 0, 1, None)


def test_numbers_have_no_names(tmp_path):
    images = directory.load(Directory(train_data_dir=str(table(tmp_path / "data")), held_out=2), 0, 1, None)
    with pytest.raises(ValueError, match=r"network.prompt needs images whose labels have names, and these have none; None tells captions"):
        training.check(images, recipes.find("imagenet-sd-scratch").run())


# CLIPScore


def test_similarity_is_what_transformers_clip_says(pipeline):
    """At the model's own size, with the empty text and one that is cut; beyond black and white images are clipped."""
    folder, rng = pipeline / "clip", np.random.default_rng(0)
    x = rng.uniform(-1.3, 1.3, (5, 3, 32, 32)).astype(np.float32)
    texts = ["a tench", "", "a goldfish on a table", "fish " * 40, "a"]
    model, words = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    mean, std = (np.asarray(settings[name]).reshape(3, 1, 1) for name in ("image_mean", "image_std"))
    seen = torch.from_numpy(((x.clip(-1, 1) / 2 + 0.5 - mean) / std).astype(np.float32))
    tokens = words(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        wanted = model(**tokens, pixel_values=seen).logits_per_image.diag() / model.logit_scale.exp() * 100
    assert np.allclose(Clip(folder, CPU).similarity(x, texts), wanted.numpy(), atol=1e-3)


def test_larger_images_are_made_smaller_as_pillow_does_it(pipeline):
    """Bicubic, antialiased; the middle of an oblong."""
    rng = np.random.default_rng(1)
    smooth = np.stack(
        [np.asarray(Image.fromarray(rng.uniform(-0.8, 0.8, (6, 9)).astype(np.float32)).resize((96, 64), 3)) for _ in range(3)]
    )
    small = np.stack([np.asarray(Image.fromarray(plane).resize((48, 32), 3)) for plane in smooth])[:, :, 8:40]
    clip = Clip(pipeline / "clip", CPU)
    one, other = (clip.images(torch.from_numpy(np.ascontiguousarray(x))[None]) for x in (smooth, small))
    assert torch.allclose(one, other, atol=1e-3)


def test_a_folder_without_a_clip_model_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"evaluation.clip must be a local directory with a CLIP model, .* lacks config.json, model.safetensors"
    ):
        Clip(tmp_path, CPU)
