"""Advice before training: the data that users bring, what is measured on them, and what is said."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from immref import theory
from immref.miscibility import Skew
from immref_trainers import advise, cli
from immref_trainers.data import folder

QUICK = ("--k", "2", "8", "--batch-size", "32", "64", "--train-batch-size", "64")
COLUMNS = 100


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    """The record and the text of the digits' advice."""
    file = tmp_path_factory.mktemp("advise") / "digits.json"
    code = f"""
import sys
from immref_trainers import cli
assert cli.main(["advise", *{QUICK!r}, "--step-ms", "50", "--json", {str(file)!r}]) == 0
assert "torch" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    return json.loads(file.read_text(encoding="utf-8")), ran.stdout


def test_the_digits_are_summed_up(advised):
    data = advised[0]["data"]
    assert (data["shape"], data["total"], data["dimension"], data["labels"]) == ([1797, 1, 8, 8], 1797, 64, 10)
    assert data["mean_square"] == pytest.approx(0.25, rel=1e-5)
    assert data["std"] == pytest.approx(0.5, rel=1e-5)


def test_knn_is_measured_beside_its_prediction(advised):
    """Digits differ little in length, so the mean square predicts them: within 5 sampling errors of two mean distances."""
    assert [line["size"] for line in advised[0]["knn"]] == [2, 8]
    for line in advised[0]["knn"]:
        predicted = theory.knn(64, advised[0]["data"]["mean_square"], line["size"])
        assert line["predicted_drop"] == predicted.distance_drop
        assert (line["mean_square"], line["pull"], line["kl_excess"]) == (predicted.mean_square, predicted.pull, predicted.kl_excess)
        assert line["unit_std_drop"] == theory.knn(64, 1.0, line["size"]).distance_drop
        assert abs(line["measured_drop"] - line["predicted_drop"]) < 5 * 2**0.5 * predicted.after_std / predicted.before / 1792**0.5
        assert line["share"] == pytest.approx(line["ms"] / 50)


def test_assignment_is_measured_below_its_bound_and_its_step_grows_with_the_batch(advised):
    assert [line["size"] for line in advised[0]["assignment"]] == [32, 64]
    for line in advised[0]["assignment"]:
        assert line["predicted_drop"] == theory.assignment_drop(64, advised[0]["data"]["mean_square"], line["size"])
        assert line["predicted_drop"] < line["measured_drop"] < -0.03
        assert line["share"] == pytest.approx(line["ms"] / (50 * line["size"] / 64))


def test_the_label_is_told_across_labels_and_not_within(advised):
    found = {row["pairing"]: Skew(**row["skew"]) for row in advised[0]["class_skew"]}
    vanilla, knn, across, within = found.values()
    assert list(found)[:3] == ["vanilla", "KNN k=2", "linear assignment"]
    assert abs(vanilla.accuracy - vanilla.chance) < 5 * vanilla.standard_error
    assert abs(within.accuracy - within.chance) < 5 * within.standard_error
    assert across.accuracy > 0.35
    assert vanilla.accuracy < knn.accuracy + 5 * knn.standard_error < across.accuracy


def test_the_text_fits_and_says_what_the_record_holds(advised):
    record, text = advised
    assert max(map(len, text.splitlines())) <= COLUMNS
    told = " ".join(text.split())
    assert all(" ".join(reason.split()) in told.replace("- ", "") for reason in (r.replace("- ", "") for r in record["recommendation"]))
    for words in ("D = 64", "mean square m = 0.250", "even this one is stronger", "not across labels", "of a step", "if std 1"):
        assert words in told


def code_of(argv):
    """The exit code of a command, whoever refuses it."""
    try:
        return cli.main(argv)
    except SystemExit as ended:
        return ended.code


def line(size, drop):
    return advise.Line(f"KNN k={size}", size, drop, drop, drop, 0.97, 0.8, 0.3, 1.0, 1.2, None)


def summary(labels=0, mean_square=1.0):
    return advise.Summary("mine", (9, 4), 9, 4, 0.0, 1.0, mean_square, labels, "as in the file", ())


def told(accuracy):
    rates = {"vanilla": 0.1, "KNN k=4": 0.12, "across": accuracy, "within": 0.1}
    return [advise.Told(name, Skew(rate, 0.1, 0.01)) for name, rate in rates.items()]


def test_the_k_whose_dose_is_the_paper_s_is_proposed():
    lines = [line(2, -0.008), line(4, -0.012), line(8, -0.018), line(64, -0.03)]
    assert advise.suited(lines).size == 8
    said = advise.recommendation(summary(), lines, line(64, -0.02), [])
    assert "k = 4, 8 have that here" in said[1]
    assert said[0].startswith("Linear assignment, batch 64")  # without conditions it comes first
    assert "even this one is weaker" in advise.recommendation(summary(), lines[:1], line(64, -0.02), [])[1]
    assert "k = 4 has that here" in advise.recommendation(summary(), lines[:2], line(64, -0.02), [])[1]


def test_labels_turn_the_advice_round():
    said = advise.recommendation(summary(labels=10), [line(4, -0.012)], line(64, -0.02), told(0.48))
    assert said[0].startswith("KNN: k=4")
    assert "not across labels" in said[1]
    assert "in 48.0% of the cases (chance 10.0% ± 1.0%)" in said[1]
    assert (
        "that cannot be seen in the noises looked at, 12.0%"
        in advise.recommendation(summary(10), [line(4, -0.012)], line(64, -0.02), told(0.12))[1]
    )
    assert "not across labels" in advise.recommendation(summary(10), [line(4, -0.012)], line(64, -0.02), [])[1]


def test_normalisation_is_spoken_of_where_it_matters():
    assert advise.normalisation(summary(mean_square=1.05)) == []
    assert "m = 0.25 here" in advise.normalisation(summary(mean_square=0.25))[0]


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 2
READ = np.random.default_rng(folder.SAMPLE_SEED).permutation(40)


def written(path, kind, x=IMAGES, label=LABELS):
    file = path / f"data.{kind}"
    if kind == "npy":
        np.save(file, x)
    elif kind == "npz":
        np.savez(file, image=x, label=label, extra=np.zeros(3))
    else:
        save_file({"pixels": np.ascontiguousarray(x), "label": label}, file)
    return file


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_array_files_are_read(tmp_path, kind):
    found = folder.load(written(tmp_path, kind), 100)
    assert found.x == pytest.approx(IMAGES[READ] / 127.5 - 1, abs=1e-6)
    assert found.x.dtype == np.float32
    assert found.label is None if kind == "npy" else np.array_equal(found.label, LABELS[READ])
    assert found.scaling == "from 0 … 255 to [-1, 1]"


def test_floating_arrays_are_taken_as_they_are_and_sampled(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 8)) * 3
    found = folder.load(written(tmp_path, "npz", x), 10)
    assert np.array_equal(found.x, x[READ[:10]].astype(np.float32))
    assert np.array_equal(found.label, LABELS[READ[:10]])
    assert (found.total, found.scaling) == (40, "as in the file")


def test_large_images_are_sampled_to_what_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "NUMBERS", 90 * 20)
    monkeypatch.setattr(folder, "FEWEST", 4)
    assert len(folder.load(written(tmp_path, "npy"), 100).x) == 20
    assert len(folder.load(pictures(tmp_path / "folder"), 100).x) == 20


def pictures(path, sizes=((6, 5),)):
    """Class folders of PNG files, one of them not an image and one cut short."""
    for index, pixels in enumerate(IMAGES):
        place = path / ("cat", "dog")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).resize(sizes[index % len(sizes)][::-1]).save(place / f"{index:02}.png")
    (path / "cat" / "00.png").write_bytes(b"no image")
    whole = (path / "dog" / "01.png").read_bytes()
    (path / "dog" / "01.png").write_bytes(whole[: len(whole) // 2])
    (path / "notes.txt").write_text("not an image by name")
    return path


def test_a_folder_of_images_is_read_and_what_cannot_be_read_is_named(tmp_path):
    found = folder.load(pictures(tmp_path), 100)
    kept = [index for index in READ if index > 1]  # files sort as cat/00, cat/02, …, dog/01, …
    assert found.x.shape == (38, 3, 6, 5)
    assert found.total == 40
    assert sorted(name.partition(":")[0] for name in found.unreadable) == [str(Path("cat/00.png")), str(Path("dog/01.png"))]
    assert sorted(found.label.tolist()) == ["cat"] * 19 + ["dog"] * 19
    assert sorted(found.x.sum(axis=(1, 2, 3))) == pytest.approx(sorted((IMAGES[kept] / 127.5 - 1).sum(axis=(1, 2, 3))), abs=1e-3)


def test_a_flat_folder_has_no_labels_and_grey_images_one_channel(tmp_path):
    for index in range(5):
        Image.fromarray(IMAGES[index, 0]).save(tmp_path / f"{index}.png")
    found = folder.load(tmp_path, 100)
    assert found.x.shape == (5, 1, 6, 5)
    assert found.label is None


def test_images_of_several_sizes_need_a_size(tmp_path):
    pictures(tmp_path, sizes=((6, 5), (9, 12)))
    with pytest.raises(ValueError, match=r"images must have one size, got .* give --image-size, for example --image-size"):
        folder.load(tmp_path, 100)
    assert folder.load(tmp_path, 100, image_size=4).x.shape == (38, 3, 4, 4)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": IMAGES, "b": IMAGES}, "must hold one array besides 'label', or one called 'image'; it holds a, b"),
        ({"image": IMAGES.astype(np.int32)}, "must be uint8 or floating, got int32"),
        ({"image": LABELS}, r"must have shape \(N, ...\), no axis empty, got \(40,\)"),
        ({"image": np.full((4, 2), np.nan)}, "must be finite"),
        ({"image": IMAGES, "label": LABELS[:3]}, r"label of data.npz must be 40 integers or strings, got int64 \(3,\)"),
    ],
)
def test_array_files_that_make_no_sense_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        folder.load(tmp_path / "data.npz", 100)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_pickle_is_never_opened(tmp_path, kind):
    (np.save if kind == "npy" else np.savez)(tmp_path / f"data.{kind}", np.asarray([{"a": 1}, None], dtype=object))
    with pytest.raises(ValueError, match=rf"data.{kind} cannot be read: .*(object|pickle)"):
        folder.load(tmp_path / f"data.{kind}", 10)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_file_cut_short_is_refused(tmp_path, kind):
    file = written(tmp_path, kind)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=f"data.{kind} cannot be read: "):
        folder.load(file, 10)


def test_the_command_reads_a_users_file_and_normalises_it(tmp_path, capsys):
    file = written(tmp_path, "npz")
    argv = ["advise", "--data", str(file), "--k", "2", "--batch-size", "16", "64", "--pixel-std", "1", "--json", str(tmp_path / "out.json")]
    assert cli.main(argv) == 0
    record, shown = json.loads((tmp_path / "out.json").read_text(encoding="utf-8")), capsys.readouterr().out
    assert record["data"]["mean_square"] == pytest.approx(1.0, rel=1e-5)
    assert record["data"]["scaling"] == "standard deviation 1"
    assert [row["size"] for row in record["assignment"]] == [16]
    assert "left out, larger than the 40 images looked at: 64" in shown
    assert "Normalisation" not in shown


def test_the_command_names_unreadable_files(tmp_path, capsys):
    assert cli.main(["advise", "--data", str(pictures(tmp_path)), "--k", "2", "--batch-size", "16"]) == 0
    shown = capsys.readouterr().out
    assert "2 files could not be read:" in shown
    assert "dog/01.png: " in shown.replace("\\", "/")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--data nowhere", "data must be digits, photos, a folder or a file; nowhere does not exist"),
        ("--data digits --image-size 8", "image_size is for folders of images, not for digits"),
        ("--k 1", "k must be one or more numbers ≥ 2, got (1,)"),
        ("--k 3000000000", "k must be an integer ≥ 2 and < 2147483648, got 3000000000"),
        ("--batch-size 4096", "data, and sample, must be at least 4096 images, the smallest batch_size, got 1797"),
        ("--step-ms 0", "step_ms must be finite and > 0, got 0.0"),
        ("--train-batch-size 1", "train_batch_size must be ≥ 2, got 1"),
        ("--json nowhere/out.json", "json must be a file in a folder that exists"),
        ("--backend troch", "unknown backend 'troch'"),
    ],
)
def test_what_cannot_be_advised_on_is_refused(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert code_of(["advise", *argv.split()]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["empty", "notes.txt"])
def test_a_place_without_images_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match="holds no readable image" if name == "empty" else "must be a folder of images, or a file"):
        folder.load(tmp_path / name, 10)
