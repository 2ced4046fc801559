"""Image data in the formats that users have, written here in those formats, and what is said about damaged ones."""

import dataclasses
import json

import datasets
import numpy as np
import pytest
from formats import ALL, LABELS, NAMES, PIXELS, SORTED, binary, encoded, folders, ranged, shard, table
from PIL import Image

from immref_trainers import strict_json
from immref_trainers.data import cifar, survey, transform
from immref_trainers.data.settings import Directory
from immref_trainers.data.sources import open_images


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", 4)


def opened(path, **settings):
    named = {name: settings.pop(name) for name in ("workers", "known", "normalisation_constants", "watch") if name in settings}
    constants = named.pop("normalisation_constants", None)
    return open_images(Directory(train_data_dir=str(path), **settings), normalisation=constants, **named)


def test_cifar_s_binary_version_is_read(tmp_path, few):
    records = binary(tmp_path / "cifar-10-batches-bin")
    train, test = opened(tmp_path), opened(tmp_path, split="test")
    assert (len(train), len(test), train.summary.classes) == (20, 4, cifar.CLASSES)
    images = records[:5, :, 1:].reshape(20, 3, 32, 32)
    assert np.array_equal(train.images(np.arange(20)), ranged(images))
    assert np.array_equal(train.labels(np.asarray([19, 0, 7])), [9, 0, 7])
    assert np.array_equal(test.images(np.asarray([2])), ranged(records[5, 2:3, 1:].reshape(1, 3, 32, 32)))
    assert train.captions(np.asarray([0])) is None
    mirrored = transform.Views(np.full(2, 0.5), np.full(2, 0.5), np.asarray([True, False]))
    assert np.array_equal(train.images(np.asarray([4, 9]), mirrored), ranged(np.stack([images[4, :, :, ::-1], images[9]])))
    half = opened(tmp_path, resolution=16)
    assert half.images(np.arange(2)).shape == (2, 3, 16, 16)
    assert np.array_equal(train.images(np.arange(20)), ranged(images))  # mirroring has changed nothing


def test_class_folders_are_read_as_datasets_reads_them(tmp_path):
    source = opened(folders(tmp_path))
    assert source.summary.classes == NAMES
    assert np.array_equal(source.images(ALL), ranged(PIXELS[SORTED]))
    assert np.array_equal(source.labels(ALL), LABELS[SORTED])
    reference = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train")
    assert np.array_equal(source.labels(ALL), reference["label"][:])
    assert np.array_equal(source.images(ALL), ranged(np.stack([np.asarray(row) for row in reference["image"]]).transpose(0, 3, 1, 2)))


def test_metadata_gives_captions(tmp_path):
    folders(tmp_path)
    files = [f"{NAMES[LABELS[row]]}/{row:02}.png" for row in reversed(range(12))]
    lines = [json.dumps({"file_name": file, "text": [file, "again"], "score": 1}) for file in files]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = opened(tmp_path)
    assert source.captions(np.asarray([3, 0])) == [[files[3], "again"], [files[0], "again"]]
    assert np.array_equal(source.images(ALL), ranged(PIXELS[::-1]))
    assert source.labels(ALL) is None
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines[2:]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"2 images of .* are not in its metadata, the first bee/10.png"):
        opened(tmp_path)


@pytest.mark.parametrize("kind", ["bytes", "datasets"])
def test_parquet_is_read(tmp_path, kind):
    if kind == "bytes":
        table(tmp_path, label=[NAMES[label] for label in LABELS], text=[f"picture {row}" for row in ALL])
    else:
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES)), "text": datasets.Value("string")}
        )
        rows = {"image": [{"bytes": encoded(image), "path": "0.png"} for image in PIXELS], "label": LABELS.tolist()}
        datasets.Dataset.from_dict(rows | {"text": [f"picture {row}" for row in ALL]}, features).to_parquet(tmp_path / "data.parquet")
    source = opened(tmp_path)
    assert source.summary.classes == NAMES
    assert np.array_equal(source.images(ALL[::-1]), ranged(PIXELS[::-1]))
    assert np.array_equal(source.labels(ALL), LABELS)
    assert source.captions(np.asarray([5])) == ["picture 5"]


def test_shards_are_read_in_place(tmp_path):
    shard(tmp_path, range(7, 12), "b.tar")
    source = opened(shard(tmp_path, range(7), "a.tar"))
    assert np.array_equal(source.images(ALL[::-1]), ranged(PIXELS[::-1]))
    assert np.array_equal(source.labels(ALL), LABELS)
    assert source.captions(np.asarray([8, 1])) == ["picture 8", "picture 1"]


def test_changed_files_are_read_anew(tmp_path):
    table(tmp_path)
    assert np.array_equal(opened(tmp_path).labels(ALL), LABELS)
    table(tmp_path, label=(LABELS + 1).tolist())
    assert np.array_equal(opened(tmp_path).labels(ALL), LABELS + 1)


SPLIT = {
    "folders": lambda path: [folders(path / "train", PIXELS[:9]), folders(path / "test", PIXELS[9:])],
    "parquet": lambda path: [table(path / "data", f"{name}-00000-of-00001.parquet", rows) for name, rows in PARTS.items()],
    "parquet folders": lambda path: [table(path / "default" / name, "0000.parquet", rows) for name, rows in PARTS.items()],
    "shards": lambda path: [shard(path, rows, f"{name}-0.tar") for name, rows in PARTS.items()],
}
PARTS = {"train": range(9), "test": range(9, 12)}


@pytest.mark.parametrize("kind", SPLIT)
def test_splits_are_never_mixed(tmp_path, kind):
    SPLIT[kind](tmp_path)
    for name, rows in PARTS.items():
        source = opened(tmp_path, split=name)
        wanted = sorted(rows, key=lambda row: LABELS[row]) if kind == "folders" else list(rows)
        assert np.array_equal(source.images(np.arange(len(source))), ranged(PIXELS[wanted]))
    with pytest.raises(ValueError, match=r"split must be one of test, train for .*, got 'valid'"):
        opened(tmp_path, split="valid")


def test_a_class_may_be_called_train(tmp_path):
    folders(tmp_path)
    (tmp_path / "ant").rename(tmp_path / "train")
    assert opened(tmp_path).summary.classes == ("bee", "cow", "train")


def test_unit_std_is_measured_once_and_lent_to_held_out_images(tmp_path):
    source = opened(folders(tmp_path / "a"), normalisation="unit_std")
    constants = source.summary.normalisation
    assert (constants.shift, constants.scale) == pytest.approx((PIXELS.mean(), PIXELS.std()), rel=1e-12)
    x = source.images(ALL).astype(np.float64)
    assert (x.mean(), x.std()) == pytest.approx((0, 1), abs=1e-6)
    held_out = opened(folders(tmp_path / "b", PIXELS[:3] // 2), normalisation="unit_std", normalisation_constants=constants)
    assert np.array_equal(held_out.images(np.arange(3)), constants.apply(PIXELS[:3] // 2))


def test_the_summary_is_json_and_spares_the_second_reading(tmp_path, monkeypatch):
    folders(tmp_path / "a")
    (tmp_path / "a" / "ant" / "00.png").write_bytes(b"no image")
    settings = {"normalisation": "unit_std", "max_unreadable": 0.1}
    first = opened(tmp_path / "a", **settings)
    (tmp_path / "a").rename(tmp_path / "moved")
    summary = dataclasses.asdict(first.summary)
    assert json.loads(strict_json.to_json(first.summary))["unreadable"] == [
        {"name": "ant/00.png", "reason": "no image that Pillow can read"}
    ]
    monkeypatch.setattr(survey, "look", None)
    again = opened(tmp_path / "moved", known=first.summary, **settings)
    assert dataclasses.asdict(again.summary) == summary | {"settings": summary["settings"] | {"train_data_dir": str(tmp_path / "moved")}}
    assert np.array_equal(again.images(np.arange(11)), first.summary.normalisation.apply(PIXELS[SORTED[1:]]))
    with pytest.raises(ValueError, match="known must be a summary under the same settings"):
        opened(tmp_path / "moved", known=first.summary)
    (tmp_path / "moved" / "bee" / "01.png").unlink()
    with pytest.raises(ValueError, match="their names, number or labels have changed"):
        opened(tmp_path / "moved", known=first.summary, **settings)


def test_images_do_not_depend_on_threads_order_or_batch(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 256, (12, 3, 9, 14), dtype=np.uint8)
    folders(tmp_path, pixels)
    settings = {"resolution": 6, "resize": 8, "normalisation": "unit_std"}
    one, three = opened(tmp_path, **settings), opened(tmp_path, workers=3, **settings)
    assert one.summary == three.summary
    seen = transform.views(12, 0, np.zeros(12, dtype=int), ALL, random_crop=True, random_flip=True)
    whole = one.images(ALL, seen)
    assert np.array_equal(three.images(ALL, seen), whole)
    for index in ([11, 3], [3], [5, 4, 3, 11]):
        part = transform.views(12, 0, np.zeros(len(index), dtype=int), np.asarray(index), random_crop=True, random_flip=True)
        assert np.array_equal(three.images(np.asarray(index), part), whole[index])
    assert not np.array_equal(whole, one.images(ALL))


def test_views_cut_and_mirror(tmp_path):
    source = opened(folders(tmp_path, PIXELS), resolution=4, resize=6)
    seen = transform.Views(np.asarray([0.0, 0.99]), np.asarray([0.99, 0.0]), np.asarray([True, False]))
    found = source.images(np.asarray([0, 1]), seen)
    first, second = PIXELS[SORTED[:2]]
    assert np.array_equal(found, ranged(np.stack([first[:, :4, 2:][:, :, ::-1], second[:, 2:, :4]])))
    assert np.array_equal(source.images(np.asarray([1])), ranged(second[None, :, 1:5, 1:5]))


def mixed(path):
    """Colour, and one grey image."""
    folders(path)
    (path / "ant" / "00.png").write_bytes(encoded(PIXELS[0, :1]))
    return path


def test_grey_among_colour_is_repeated_and_counted(tmp_path):
    source = opened(mixed(tmp_path), normalisation="unit_std")
    as_colour = PIXELS.copy()
    as_colour[0] = PIXELS[0, 0]
    assert (source.summary.channels, source.summary.converted) == (3, 1)
    assert source.summary.normalisation.scale == pytest.approx(as_colour.std(), rel=1e-12)
    assert np.array_equal(source.images(ALL), source.summary.normalisation.apply(as_colour[SORTED]))


def test_colour_becomes_grey_where_one_channel_is_asked_for(tmp_path):
    source = opened(mixed(tmp_path), channels=1)
    assert (source.summary.channels, source.summary.converted) == (1, 11)
    assert np.array_equal(source.images(np.asarray([0])), ranged(PIXELS[:1, :1]))
    luminance = np.tensordot(PIXELS[SORTED[1]], [0.299, 0.587, 0.114], (0, 0))
    assert source.summary.normalisation.invert(source.images(np.asarray([1])))[0, 0] == pytest.approx(luminance, abs=1)


def test_grey_images_alone_have_one_channel(tmp_path):
    source = opened(folders(tmp_path, PIXELS[:, :1]))
    assert (source.images(ALL).shape, source.summary.converted) == ((12, 1, 6, 6), 0)


def damaged(path, kind):
    """The second image of `ant` cut short; it sorts as the second."""
    folders(path, kind=kind)
    file = path / "ant" / f"03.{kind}"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    return path


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_an_image_cut_short_is_named_and_left_out_only_where_that_is_allowed(tmp_path, kind):
    with pytest.raises(
        ValueError, match=rf"1 of 12 images of .* cannot be read \(ant/03.{kind}: .*max_unreadable, which is 0, be at least 0.0833"
    ):
        opened(damaged(tmp_path, kind))
    source = opened(tmp_path, max_unreadable=1 / 12)
    assert (len(source), source.summary.listed, [one.name for one in source.summary.unreadable]) == (11, 12, [f"ant/03.{kind}"])
    assert np.array_equal(source.labels(np.arange(11)), LABELS[np.delete(SORTED, 1)])
    if kind == "png":
        assert np.array_equal(source.images(np.arange(11)), ranged(PIXELS[np.delete(SORTED, 1)]))


def test_a_damaged_cell_and_a_damaged_member_are_named(tmp_path):
    cells = [encoded(image) for image in PIXELS]
    cells[4], cells[5] = None, b"no image"
    table(tmp_path / "a", image=cells)
    with pytest.raises(ValueError, match=r"\(row 4: holds no bytes of an image; row 5: no image that Pillow can read\)"):
        opened(tmp_path / "a")
    shard(tmp_path / "b", range(3), extra=[("9.png", b"GIF89a"), ("9.cls", b"0"), ("9.txt", b"")])
    with pytest.raises(ValueError, match=r"\(shard-0.tar: 9: no image that Pillow can read\)"):
        opened(tmp_path / "b")


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)  # Pillow refuses twice as many: 6 × 6 are too many
    with pytest.raises(ValueError, match=r"12 of 12 images .*ant/00.png: Image size \(36 pixels\) exceeds limit of 34 pixels.*; …\)"):
        opened(folders(tmp_path), max_unreadable=0.5)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.full((6, 6), 40_000, dtype=np.uint16)), "has pixels of mode I;16; convert it to 8 bits a channel"),
        (Image.new("RGBA", (6, 6), (1, 2, 3, 128)), "is transparent in places; lay it on a background"),
    ],
)
def test_what_would_lose_information_is_refused(tmp_path, image, words):
    folders(tmp_path)
    image.save(tmp_path / "ant" / "00.png")
    with pytest.raises(ValueError, match=f"ant/00.png: {words}"):
        opened(tmp_path)


def test_an_opaque_image_with_alpha_is_colour_and_exif_turns_it(tmp_path):
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be turned by a quarter, clockwise
    tall = np.random.default_rng(5).integers(0, 256, (8, 4, 4), dtype=np.uint8)
    tall[:, :, 3] = 255
    Image.fromarray(tall).save(tmp_path / "0.png", exif=sideways)
    assert np.array_equal(opened(tmp_path).images(np.asarray([0]))[0], ranged(np.rot90(tall[:, :, :3], -1).transpose(2, 0, 1)))


def test_images_of_other_sizes_need_a_resolution(tmp_path):
    folders(tmp_path)
    Image.new("RGB", (9, 7)).save(tmp_path / "cow" / "02.png")
    with pytest.raises(
        ValueError, match=r"images must have one size, got 6×6 of ant/00\.png and 9×7 of cow/02\.png; set resolution, for example 6"
    ):
        opened(tmp_path)
    source = opened(tmp_path, resolution=7)
    assert (source.images(ALL).shape, source.summary.enlarged) == ((12, 3, 7, 7), 11)


def emptied(path):
    (path / "readme.txt").write_text("words", encoding="utf-8")


def pickled(path):
    for file in ("data_batch_1", "test_batch", "batches.meta"):
        (path / file).write_bytes(b"")


def resized(change):
    def write(path):
        binary(path)
        file = path / "data_batch_3.bin"
        file.write_bytes(file.read_bytes()[:-1] if change < 0 else file.read_bytes() * 2)

    return write


REFUSED = {
    "empty": (emptied, {}, r"holds no images; wanted CIFAR-10's \.bin files, images"),
    "packed": (lambda path: (path / "cifar-10-binary.tar.gz").write_bytes(b""), {}, r"it holds cifar-10-binary\.tar\.gz: unpack it"),
    "pickles": (pickled, {}, r"holds CIFAR-10 as Python pickles, .* wanted its binary version, cifar-10-binary\.tar\.gz"),
    "short": (resized(-1), {}, r"data_batch_3\.bin must have 12,292 bytes, 4 records of 3,073, got 12,291"),
    "long": (resized(1), {}, r"data_batch_3\.bin must have 12,292 bytes, .* got 24,584"),
    "lacking": (lambda path: [binary(path), (path / "data_batch_2.bin").unlink()], {}, r"lacks data_batch_2\.bin"),
    "label": (lambda path: binary(path, labels=10), {}, r"labels of data_batch_1\.bin must be in 0 … 9, got 10 at record 0"),
    "cifar split": (binary, {"split": "valid"}, "split must be train or test for CIFAR-10, got 'valid'"),
    "cifar column": (binary, {"label_column": "lable"}, "label_column must be one of image, label, got 'lable'; did you mean 'label'"),
    "two kinds": (lambda path: [table(path), shard(path, [0])], {}, "must hold one kind of data, got parquet and shards"),
    "column": (table, {"image_column": "imgae"}, "image_column must be one of image, label, got 'imgae'; did you mean 'image'"),
    "no image": (
        table,
        {"image_column": "label"},
        r"image_column 'label' must hold encoded images, got Value\('int64'\); the columns: image, ",
    ),
    "float label": (
        lambda path: table(path, label=[0.5] * 12),
        {},
        "label_column 'label' must hold integers or texts, none left out, got float64",
    ),
    "no label": (lambda path: table(path, label=[None, *range(11)]), {}, "must hold integers or texts, none left out, got object"),
    "minus one": (lambda path: table(path, label=[*range(11), -1]), {}, "label_column 'label' must be ≥ 0, got -1 for row 11"),
    "no parquet": (lambda path: (path / "a.parquet").write_bytes(b"PAR1"), {}, "cannot be read: .*[Pp]arquet"),
    "cut shard": (lambda path: cut(path, 700), {}, r"shard-0\.tar (cannot be read: |does not end as an archive does)"),
    "cut between": (lambda path: cut(path, 3 * 1024), {}, r"shard-0\.tar does not end as an archive does: it was cut short"),
    "no shard": (lambda path: (path / "a.tar").write_bytes(b"words" * 300), {}, r"a\.tar cannot be read: "),
    "no picture": (lambda path: shard(path, [0], extra=[("9.cls", b"1")]), {}, "shard-0.tar: 9 has no image; wanted one of .png"),
    "two pictures": (lambda path: shard(path, [0], extra=[("000.jpg", b"1")]), {}, "shard-0.tar: 000 has two images"),
    "no class": (lambda path: shard(path, [0], extra=[("9.png", b"1")]), {}, "shard-0.tar: 9 has no label, other samples have"),
    "word": (
        lambda path: shard(path, [], extra=[("9.png", b"1"), ("9.cls", b"cat")]),
        {},
        "label of shard-0.tar: 9 must be an integer, got 'cat'",
    ),
}


def cut(path, size):
    file = shard(path, [0]) / "shard-0.tar"
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_on_is_refused(tmp_path, few, case):
    write, settings, words = REFUSED[case]
    write(tmp_path)
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, **settings)


def test_a_name_on_the_hub_and_a_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="pass a local directory, uoft-cs/cifar10 does not exist; names on the Hub are not downloaded"):
        opened("uoft-cs/cifar10")
    with pytest.raises(ValueError, match=r"pass a local directory, .*data\.parquet is a file"):
        opened(table(tmp_path) / "data.parquet")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 0}, "resolution must be ≥ 1, got 0"),
        ({"resolution": 8, "resize": 7}, "data.resize must be at least data.resolution, which is 8, got 7"),
        ({"resize": 7}, "data.resize must be at least data.resolution, which is None, got 7"),
        ({"random_crop": True}, "data.resolution must be given with random_crop, got None"),
        ({"channels": 4}, "channels must be 1 or 3, or be left out, got 4"),
        ({"normalisation": "std"}, "normalisation must be range or unit_std, got 'std'"),
        ({"max_unreadable": 1.0}, r"max_unreadable must be in \[0, 1\), got 1.0"),
        ({"workers": 0}, "workers must be ≥ 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        opened(folders(tmp_path), **settings)


def test_indices_and_views_must_fit(tmp_path):
    source = opened(folders(tmp_path))
    for index in (np.asarray([12]), np.asarray([-1])):
        with pytest.raises(ValueError, match=r"indices must be in \[0, 12\), got "):
            source.images(index)
    with pytest.raises(TypeError, match=r"indices must be one or more integers \(B,\), got float64 \(1,\)"):
        source.labels(np.asarray([0.5]))
    with pytest.raises(ValueError, match="views must be 2, as many as indices, got 3"):
        source.images(np.asarray([0, 1]), transform.centred(3))


def test_a_file_that_goes_missing_later_is_named(tmp_path):
    source = opened(folders(tmp_path))
    (tmp_path / "bee" / "01.png").unlink()
    with pytest.raises(ValueError, match=r"bee/01\.png could be read before and now cannot: .*No such file"):
        source.images(ALL)


def test_reading_can_be_watched(tmp_path):
    told = []
    opened(folders(tmp_path), watch=lambda done, listed: told.append((done, listed)))
    assert told == [(done, 12) for done in range(1, 13)]
