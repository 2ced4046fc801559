"""The paper's analyses at a small size, against theory; the photographs that they use."""

import json
import math
import re

import numpy as np
import pytest

from immref import theory
from immref_trainers import cli
from immref_trainers.analysis import kl
from immref_trainers.data import photos

SMALL = {"num_noises": 6000, "image_size": 4, "batch_size": 1000}  # 48 numbers an image


@pytest.fixture(scope="module")
def rows():
    return kl.rows(kl.Settings(**SMALL))


def test_vanilla_is_the_bias_of_its_sample(rows):
    mean, std = theory.vanilla_kl(6000, 48)
    assert rows[0].noise == "vanilla"
    assert abs(rows[0].plug_in - mean) < 5 * std
    assert abs(rows[0].corrected) < 5 * std
    assert rows[0].excess == 0


@pytest.mark.parametrize("m", kl.MEAN_SQUARES)
def test_knn_near_isotropic_images_has_the_excess_of_theory(rows, m):
    """Its sampling error: that of the radius times the slope D (1/λ - 1)/2, and vanilla's own."""
    row = next(row for row in rows if "isotropic" in row.noise and row.mean_square == m)
    predicted = theory.knn(48, m, 8)
    radius_error = math.sqrt(2 / 48 / 6000)  # of E n² for vanilla; KNN's is smaller
    band = 5 * math.hypot(48 / 2 * (1 / predicted.mean_square - 1) * radius_error, theory.vanilla_kl(6000, 48)[1])
    assert row.predicted_excess == predicted.kl_excess
    assert abs(row.excess - predicted.kl_excess) < band < predicted.kl_excess
    assert row.predicted == pytest.approx(rows[0].predicted + predicted.kl_excess)


@pytest.mark.parametrize("m", kl.MEAN_SQUARES)
def test_photographs_can_only_add_to_it(rows, m):
    """Few directions, unequal lengths: more than the isotropic value, by more than both samples' error."""
    isotropic, images = (next(row for row in rows if name in row.noise and row.mean_square == m) for name in ("isotropic", "photo"))
    assert images.excess > isotropic.excess + 2 * theory.vanilla_kl(6000, 48)[1]


def test_the_paper_s_numbers_stand_beside_its_own_setting_only():
    full = kl.Settings()
    assert (full.num_noises, full.dimension, full.k) == (50_000, 3072, 8)
    assert [kl.paper(full, k) for k in (1, 4, 8)] == [48.25, None, 48.60]
    assert kl.paper(kl.Settings(**SMALL), 8) is None


def test_the_command_prints_the_table_and_writes_the_numbers(tmp_path, capsys, rows):
    argv = ["--num-noises", "6000", "--image-size", "4", "--batch-size", "1000", "--json", str(tmp_path / "kl.json")]
    assert cli.main(["analyze", "kl", *argv]) == 0
    shown = capsys.readouterr().out
    for row in kl.table(rows, kl.Settings(**SMALL)).rows:
        assert re.search(r" +".join(map(re.escape, row)), shown)
    record = json.loads((tmp_path / "kl.json").read_text(encoding="utf-8"))
    assert [row["plug_in"] for row in record["rows"]] == [row.plug_in for row in rows]
    assert record["settings"]["num_noises"] == 6000
    assert record["backend"].startswith("reference")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("analyze", "analyze needs the folders of finished runs or the name of an analysis, got ''; known: kl, dose, plane"),
        ("analyze kll", "got 'kll'; known: kl, dose, plane; did you mean 'kl'?"),
        ("analyze kl --num-noises 3072", "num_noises must be ≥ 3073, got 3072"),
        ("analyze kl --k 1", "k must be ≥ 2, got 1"),
        ("analyze kl --k 3000000000", "k must be an integer ≥ 2 and < 2147483648, got 3000000000"),
        ("analyze kl --json nowhere/kl.json", "json must be a file in a folder that exists, got nowhere/kl.json"),
        ("analyze kl --backend troch", "unknown backend 'troch'"),
    ],
)
def test_what_cannot_be_analysed_is_refused(argv, words, capsys):
    try:
        code = cli.main(argv.split())
    except SystemExit as ended:  # tyro's own
        code = ended.code
    assert code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_patches_are_windows_of_the_photographs():
    found, again = (photos.patches(np.random.default_rng(3), 50, 20) for _ in range(2))
    assert found.shape == (50, 3, 20, 20)
    assert found.dtype == np.float32
    assert np.array_equal(found, again)
    assert found.min() >= -1
    assert found.max() <= 1
    rows = photos.pixels().reshape(-1, 3)
    assert {tuple(pixel) for pixel in found[0].reshape(3, -1).T} <= {tuple(pixel) for pixel in rows}


def test_normalised_patches_have_the_mean_square_asked_for():
    """Of all pixels of the photographs; a sample of patches is near it."""
    values = (photos.pixels() - photos.pixels().mean()) / photos.pixels().std()
    assert np.mean(values**2) == pytest.approx(1.0, rel=1e-4)
    x = photos.normalised(np.random.default_rng(0), 2000, 0.25)
    assert np.mean(x**2) == pytest.approx(0.25, rel=0.1)
    assert abs(x.mean()) < 0.1


@pytest.mark.parametrize("size", [0, 428])
def test_patches_larger_than_a_photograph_are_refused(size):
    with pytest.raises(ValueError, match=rf"size must be in \[1, 427\].*got {size}"):
        photos.patches(np.random.default_rng(0), 1, size)
