"""What is done to pixels: normalisation and back, the square, and views that depend on (seed, epoch, index) alone."""

import numpy as np
import pytest
from PIL import Image

from immref_trainers.data.order import share, window_epochs, window_indices
from immref_trainers.data.transform import RANGE, Normalisation, square, to_array, unit_std, views

ALL = np.arange(256, dtype=np.uint8)
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
BOTH = {"random_crop": True, "random_flip": True}


def test_range_maps_bytes_to_minus_one_to_one():
    x = RANGE.apply(ALL)
    assert (x.dtype, x[0], x[255]) == (np.float32, -1, 1)
    assert x == pytest.approx(ALL / 127.5 - 1, abs=1e-7)


def test_unit_std_is_measured_from_the_counts():
    pixels = np.random.default_rng(1).integers(0, 100, (50, 3, 4, 4), dtype=np.uint8)
    found = unit_std(np.bincount(pixels.ravel(), minlength=256))
    assert (found.shift, found.scale) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-12)
    x = found.apply(pixels).astype(np.float64)
    assert (x.mean(), x.std()) == pytest.approx((0, 1), abs=1e-6)


@pytest.mark.parametrize("normalisation", [RANGE, Normalisation("unit_std", 120.7, 63.1)])
def test_pictures_come_back_and_what_is_outside_is_clipped(normalisation):
    assert np.array_equal(normalisation.invert(normalisation.apply(ALL)), ALL)
    assert normalisation.invert(np.asarray([-9.0, 9.0])).tolist() == [0, 255]


def test_images_that_do_not_vary_have_no_unit_std():
    with pytest.raises(ValueError, match="images must vary for normalisation='unit_std'; every pixel is 7"):
        unit_std(np.bincount([7, 7], minlength=256))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_constants_that_cannot_be_are_refused(shift, scale):
    with pytest.raises(ValueError, match="shift must be finite and scale finite and > 0"):
        Normalisation("unit_std", shift, scale)


@pytest.mark.parametrize(("top", "left", "corner"), [(0.0, 0.0, (0, 0)), (0.5, 0.5, (2, 6)), (0.999, 0.999, (4, 12)), (0.0, 0.3, (0, 3))])
def test_an_image_of_the_side_is_cut_and_not_resampled(top, left, corner):
    found = to_array(square(Image.fromarray(PICTURE), 8, 12, top, left))
    row, column = corner
    assert np.array_equal(found, PICTURE[row : row + 8, column : column + 8].transpose(2, 0, 1))


def test_every_place_of_the_square_is_as_likely():
    """Room for 12 - 10 = 2 rows: three places, each a third of the fractions."""
    image = Image.fromarray(np.repeat(np.arange(12, dtype=np.uint8)[:, None], 12, axis=1))
    rows = [int(to_array(square(image, 10, 12, top, 0.0))[0, 0, 0]) for top in (np.arange(300) + 0.5) / 300]
    assert np.bincount(rows).tolist() == [100, 100, 100]


def test_shrinking_is_antialiased():
    """Stripes of one pixel become their mean; picking pixels would keep black or white."""
    stripes = np.tile(np.asarray([0, 255], dtype=np.uint8), (64, 32))
    inner = to_array(square(Image.fromarray(stripes), 8, 8))[0, :, 1:-1].astype(int)
    assert np.abs(inner - 127.5).max() < 8


def test_a_square_is_what_scaling_then_cutting_gives():
    """By the whole image first: bicubic to the side, then the cut; the two differ by rounding between the steps alone."""
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 60), dtype=np.uint8))
    whole = np.asarray(noise.resize((30, 20), Image.Resampling.BICUBIC)).astype(int)
    for top, left, row, column in ((0.5, 0.5, 2, 7), (0.0, 0.0, 0, 0), (0.75, 1 / 7, 3, 2)):
        found = to_array(square(noise, 16, 20, top, left))[0].astype(int)
        assert np.abs(found - whole[row : row + 16, column : column + 16]).max() <= 1


def test_small_images_are_enlarged_and_long_ones_need_no_memory():
    assert square(Image.new("RGB", (5, 9)), 16, 18).size == (16, 16)
    assert square(Image.new("L", (60_000, 1)), 32, 32).size == (32, 32)  # scaled as a whole it would have 61 million pixels


def seen(seed, size, world, steps, count=30, **switches):
    """(epoch, index) → (top, left, mirrored), asked in windows of `size`, by `world` processes, step by step."""
    found = {}
    for step in steps:
        for rank in range(world):
            index = share(window_indices(count, size, seed, step), rank, world)
            epoch = share(window_epochs(count, size, step), rank, world)
            got = views(count, seed, epoch, index, **(switches or BOTH))
            found |= {(int(e), int(i)): (t, x, m) for e, i, t, x, m in zip(epoch, index, got.top, got.left, got.mirrored, strict=True)}
    return found


def test_views_do_not_depend_on_the_order_the_batch_or_the_number_of_processes():
    whole = seen(5, 12, 1, range(10))  # 120 images: four epochs of 30
    assert len(whole) == 120
    assert seen(5, 12, 1, reversed(range(10))) == whole
    assert seen(5, 4, 1, range(30)) == whole
    assert seen(5, 24, 4, range(5)) == whole
    assert seen(5, 12, 3, [7, 2]).items() <= whole.items()


def test_views_differ_between_images_epochs_and_seeds():
    whole = seen(5, 30, 1, range(4))
    assert len({view[:2] for view in whole.values()}) == 120
    assert not {view[:2] for view in whole.values()} & {view[:2] for view in seen(6, 30, 1, range(4)).values()}


def test_more_images_leave_the_views_of_the_first_as_they_are():
    few, more = (views(count, 5, np.asarray([0, 2]), np.asarray([3, 9]), **BOTH) for count in (10, 1000))
    assert np.array_equal(few.top, more.top)
    assert np.array_equal(few.mirrored, more.mirrored)


def test_half_are_mirrored_and_places_are_uniform():
    """4,000 draws: five standard errors of a share of a half, and of a mean of uniform numbers."""
    index = np.arange(4000)
    got = views(4000, 0, np.zeros(4000, dtype=int), index, **BOTH)
    assert abs(got.mirrored.mean() - 0.5) < 5 * 0.5 / 4000**0.5
    for place in (got.top, got.left):
        assert abs(place.mean() - 0.5) < 5 * 12**-0.5 / 4000**0.5
        assert 0 <= place.min() < 0.01
        assert 0.99 < place.max() < 1


def test_what_is_switched_off_stays_at_the_centre_and_moves_nothing_else():
    both = seen(5, 30, 1, [0])
    assert {key: view[2] for key, view in both.items()} == {
        key: view[2] for key, view in seen(5, 30, 1, [0], random_crop=False, random_flip=True).items()
    }
    off = seen(5, 30, 1, [0], random_crop=False, random_flip=False)
    assert set(off.values()) == {(0.5, 0.5, False)}


def test_epochs_belong_to_their_indices():
    """Each epoch, by its own number, holds every image once."""
    pairs = {(int(e), int(i)) for step in range(9) for e, i in zip(window_epochs(7, 7, step), window_indices(7, 7, 1, step), strict=True)}
    assert pairs == {(epoch, index) for epoch in range(9) for index in range(7)}
    assert window_epochs(5, 4, 1).tolist() == [0, 1, 1, 1]


def test_the_kept_order_cannot_be_changed_by_who_asks():
    first = window_indices(10, 4, 0, 0)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(window_indices(10, 4, 0, 0), kept)


@pytest.mark.parametrize(("rank", "world"), [(0, 5), (2, 2), (-1, 2)])
def test_a_window_is_shared_evenly_or_not_at_all(rank, world):
    with pytest.raises(ValueError, match=f"a window of 12 must be divisible by world={world}, and rank={rank}"):
        share(np.arange(12), rank, world)
