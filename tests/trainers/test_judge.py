"""Photographs as data, and a judge that tells them from what only looks like them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from immref_trainers.config import Run
from immref_trainers.data import photos, training
from immref_trainers.data.settings import Photos
from immref_trainers.data.training import Arrays, Images
from immref_trainers.metrics import inception, tasks
from immref_trainers.metrics.judge import Judge

COUNT = 800


@pytest.fixture(scope="module")
def patches():
    return training.open_images(Photos(patches=4000, held_out=500), seed=0)


@pytest.fixture(scope="module")
def judge(patches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "STEPS", 400)
        return Judge(patches, Run(recipe="photos-flow", data=Photos()))


def test_patches_are_the_same_every_time_and_held_out_ones_share_no_pixel(patches):
    again = photos.load(Photos(patches=4000, held_out=500))
    assert np.array_equal(patches.train.x, again.train.x)
    assert abs(patches.train.x.std() / 0.5 - 1) < 0.05  # of a sample; the photographs' own is 0.5 exactly
    assert sorted(np.unique(patches.held_out.y)) == list(range(8))
    _, _, width, _ = photos.pixels().shape
    strip = width // photos.STRIPS
    columns = np.arange(width) % strip < int(photos.SEEN * strip)
    painted = np.where(columns[None, None, :, None], 1.0, 0.0) * np.ones_like(photos.pixels())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "pixels", lambda: painted.astype(np.float32))
        seen = photos.load(Photos(patches=2000, held_out=2000))
    assert len(np.unique(seen.train.x)) == 1
    assert len(np.unique(seen.held_out.x)) == 1
    assert seen.train.x.flat[0] != seen.held_out.x.flat[0]


def test_bytes_come_back(patches):
    pixels = patches.pixels(patches.train.x)
    original = photos.pixels()
    assert set(np.unique(pixels)) <= set(np.rint((original + 1) * 127.5).astype(int).ravel())


def softened(x):
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])).div(16).expand(3, 1, 3, 3)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel, groups=3).numpy()


def gaussian(x, rng):
    flat = x.reshape(len(x), -1).astype(np.float64)
    root = np.linalg.cholesky(np.cov(flat, rowvar=False) + 1e-6 * np.eye(flat.shape[1]))
    return (flat.mean(axis=0) + rng.standard_normal((COUNT, flat.shape[1])) @ root.T).reshape(COUNT, *x.shape[1:]).astype(np.float32)


def test_the_judge_tells_real_patches_from_blurred_noisy_and_gaussian_ones(patches, judge):
    """Each many times further than the floor, in the features of both networks."""
    rng = np.random.default_rng(1)
    real = patches.train.images(rng.integers(len(patches.train), size=COUNT))
    floor = judge.floor(COUNT)
    spoilt = {
        "blurred": softened(real),
        "noisy": real + 0.15 * rng.standard_normal(real.shape).astype(np.float32),
        "gaussian": gaussian(patches.train.x, rng),
    }
    for name, samples in spoilt.items():
        score = judge.score(samples)
        assert score.fd > 3 * max(one.fd for one in floor), name
        assert score.fd_second_features > 3 * max(one.fd_second_features for one in floor), name
    assert judge.score(real).accuracy is None


def test_copies_are_found(patches, judge):
    copies = judge.nearest(patches.train.x[:100])
    assert (copies.copies, copies.ratio < 0.01) == (1.0, True)
    unseen = judge.nearest(patches.held_out.x)
    assert unseen.ratio == pytest.approx(1.0)
    assert unseen.copies <= 0.011


def test_labels_asked_for_are_read_and_a_wrong_one_is_noticed(images):
    judge = Judge(images, Run(recipe="digits-flow-classes"))
    x, labels = images.train.x, images.train.y
    right, wrong = judge.score(x, labels), judge.score(x, (labels + 1) % 10)
    assert right.accuracy > 0.95
    assert wrong.accuracy < 0.05
    assert right.fd_within_class == pytest.approx(0.0, abs=1e-6)
    assert wrong.fd_within_class > 1
    assert judge.score(x[:100], labels[:100]).fd_within_class is None  # ten of each, fewer than there are features


def test_a_feature_that_never_moves_counts_for_nothing(images):
    flat = Images(Arrays(np.zeros_like(images.train.x), images.train.y), images.held_out, 10, 0.0, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "STEPS", 1)
        features = tasks.fit(replace(flat, classes=0), seed=1)
    assert np.isfinite(features.see(images.train.x[:10])).all()


def test_inception_says_what_it_lacks(images, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"inception_weights must be a file .*, got nowhere"):
        inception.load("nowhere", images)
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs torch-fidelity: pip install 'immref\[fid\]'"):
        inception.load(str(tmp_path / "weights.pth"), images)
    pixels = inception.as_bytes(images, images.train.x[:3])
    assert (pixels.shape, pixels.dtype) == ((3, 3, 8, 8), np.uint8)
