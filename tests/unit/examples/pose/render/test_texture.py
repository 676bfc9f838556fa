"""Patterns are where they should be, and cover the share that was asked for."""

import numpy as np
import pytest

from flywheel.examples.pose.render.texture import Pattern, Surface, albedo, noise_tile

IDENTITY = np.eye(4)[None, :3]


def colours_of(surface, places):
    which = np.zeros(len(places), dtype=np.int32)
    return albedo(which, places, IDENTITY, np.array([surface.row]), noise_tile())


def floor_places(number=4000):
    flat = np.random.default_rng(0).uniform(-2, 2, (number, 2))
    return np.column_stack([flat, np.zeros(number)])


def black_and_white(pattern, **settings):
    return Surface(colour=(0.0, 0.0, 0.0), second=(1.0, 1.0, 1.0), pattern=pattern, **settings)


def test_a_plain_surface_has_one_colour():
    found = colours_of(Surface(colour=(0.1, 0.2, 0.3)), floor_places())
    np.testing.assert_array_equal(found, np.broadcast_to([0.1, 0.2, 0.3], found.shape))


@pytest.mark.parametrize("cover", [0.1, 0.3, 0.7])
def test_patches_cover_the_share_that_was_asked_for(cover):
    found = colours_of(black_and_white(Pattern.PATCHES, cover=cover), floor_places())
    assert found.mean() == pytest.approx(cover, abs=0.04)


def test_a_checker_changes_from_square_to_square():
    places = np.array([(0.5, 0.5, 0), (1.5, 0.5, 0), (1.5, 1.5, 0), (-0.5, 0.5, 0)])
    found = colours_of(black_and_white(Pattern.CHECKER, scale_per_m=1.0), places)
    assert found[:, 0].tolist() == [0, 1, 0, 1]


def test_stripes_run_along_one_side_and_repeat():
    places = np.array([(0.0, 0.0, 0), (0.0, 0.7, 0), (0.1, 0.0, 0), (0.05, 0.0, 0)])
    found = colours_of(black_and_white(Pattern.STRIPES, scale_per_m=10.0), places)
    assert found[:, 0].tolist() == [1, 1, 1, 0]


def test_grain_varies_brightness_about_the_colour():
    found = colours_of(Surface(colour=(0.4, 0.2, 0.1), grain=0.5), floor_places())
    np.testing.assert_allclose(found.mean(axis=0), [0.4, 0.2, 0.1], rtol=0.02)
    np.testing.assert_allclose(found[:, 0], 2 * found[:, 1])
    assert found[:, 0].std() > 0.03


def test_the_tile_repeats_without_a_seam_and_is_even():
    tile = noise_tile()
    across = np.abs(tile[:, 0] - tile[:, -1]).mean()
    assert across < 1.5 * np.abs(np.diff(tile, axis=1)).mean()
    assert tile.min() == 0.0
    assert tile.max() == 1.0
    assert tile.mean() == pytest.approx(0.5, abs=1e-3)
