"""A local directory as training and held-out images: which rows, how they are seen, and what cannot work."""

from dataclasses import replace

import formats
import numpy as np
import pytest

from immref_trainers.data import training, transform
from immref_trainers.data.settings import Directory

SETTINGS = Directory(held_out=3, random_flip=True)


@pytest.fixture
def there(tmp_path):
    return formats.table(tmp_path / "data")


def opened(path, seed=0, **settings):
    return training.open_images(replace(SETTINGS, train_data_dir=str(path), **settings), seed)


def rows_of(source):
    """Which of the written images a source has, by their pixels."""
    written = formats.ranged(formats.PIXELS)
    return [int(np.flatnonzero((written == x).all((1, 2, 3)))[0]) for x in source.images(np.arange(len(source)))]


def test_held_out_images_are_never_trained_on_and_are_the_same_for_every_seed(there):
    images = opened(there)
    held, trained = rows_of(images.held_out), rows_of(images.train)
    assert sorted(held + trained) == list(range(12))
    assert len(held) == 3
    assert rows_of(opened(there, seed=9).held_out) == held
    assert images.train.labels(np.arange(9)).tolist() == formats.LABELS[trained].tolist()
    assert images.classes == 3


def test_a_view_is_a_function_of_seed_epoch_and_index(there):
    train, every = opened(there).train, np.arange(9)
    plain = train.images(every)
    seen = {(seed, epoch): opened(there, seed).train.images(every, np.full(9, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    again = opened(there).train
    for row in every:  # one at a time, in another process's order
        np.testing.assert_array_equal(again.images(every[[row]], np.asarray([1]))[0], seen[0, 1][row])
    for views in seen.values():
        mirrored = (views == plain[..., ::-1]).all((1, 2, 3))
        assert ((views == plain).all((1, 2, 3)) | mirrored).all()
        assert 0 < mirrored.sum() < 9
    assert len({views.tobytes() for views in seen.values()}) == 4


def test_another_part_is_held_out_whole_and_normalised_as_the_training_images(tmp_path):
    dark = formats.PIXELS // 2
    formats.table(tmp_path, "train-00000.parquet")
    formats.table(tmp_path, "test-00000.parquet", rows=np.arange(4), pixels=dark)
    images = opened(tmp_path, held_out_split="test", normalisation="unit_std")
    values = formats.PIXELS.astype(np.float64)
    wanted = (dark[:4] - values.mean()) / values.std()
    np.testing.assert_allclose(images.held_out.images(np.arange(4)), wanted, atol=1e-5)
    assert (len(images.train), len(images.held_out)) == (12, 4)
    np.testing.assert_allclose((images.low, images.high), (np.asarray([0, 255]) - values.mean()) / values.std(), rtol=1e-5)
    assert images.train.largest == pytest.approx(max(-images.low, images.high))


def test_black_and_white_come_back_as_bytes(there):
    train = opened(there).train
    np.testing.assert_array_equal(opened(there).pixels(train.images(np.arange(9))), formats.PIXELS[rows_of(train)])


def test_a_split_that_leaves_nothing_is_refused(there):
    with pytest.raises(ValueError, match=r"data\.held_out must leave 2 images on either side, at most 10, got 11"):
        opened(there, held_out=11)


def test_held_out_images_of_another_shape_are_refused(tmp_path):
    formats.table(tmp_path, "train-00000.parquet")
    formats.table(tmp_path, "test-00000.parquet", pixels=formats.PIXELS[:, :, :4, :4])
    with pytest.raises(ValueError, match=r"shape of the others, \(3, 6, 6\), got \(3, 4, 4\); set data\.resolution"):
        opened(tmp_path, held_out_split="test")


def test_range_is_what_the_formats_expect():
    assert transform.RANGE.apply(np.asarray([0, 255], np.uint8)).tolist() == [-1, 1]
