"""Lens and sensor: blur keeps the light, exposure scales it, noise has the size that is asked for."""

import numpy as np
import pytest

from flywheel.examples.pose.render.effects import Effects, blurred, develop


def plain(value=0.25, side=64):
    return np.full((3, side, side), value, dtype=np.float32)


def spot(side=64):
    image = plain(0.0, side)
    image[:, side // 2, side // 2] = 1.0
    return image


def centre(picture):
    weights = picture[..., 0].astype(float) ** 2  # back to light
    rows, columns = np.indices(weights.shape)
    return (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()


def test_without_effects_the_picture_is_the_square_root_of_the_light():
    picture = develop(plain(0.25), Effects())
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    assert set(picture.ravel().tolist()) == {128}


def test_exposure_and_white_balance_are_factors_on_light():
    effects = Effects(exposure=2.0, white_balance=(1.0, 0.5, 0.25))
    picture = develop(plain(0.25), effects)
    np.testing.assert_allclose(picture[5, 5], 255 * np.sqrt([0.5, 0.25, 0.125]), atol=0.51)


def test_too_much_light_is_white_and_never_wraps():
    assert np.all(develop(plain(3.0), Effects(noise=0.1)) > 100)
    assert np.all(develop(plain(3.0), Effects()) == 255)


def test_vignetting_takes_its_share_of_light_in_the_corners():
    picture = develop(plain(0.25), Effects(vignetting=0.5)).astype(float)
    assert picture[32, 32, 0] >= 127
    np.testing.assert_allclose(picture[0, 0], 255 * np.sqrt(0.25 * 0.5), atol=2)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_blur_keeps_all_light_and_has_the_width_that_is_asked_for(sigma):
    image = blurred(spot(), sigma)
    np.testing.assert_allclose(image.sum(axis=(1, 2)), 1.0, atol=1e-5)
    spread = (image[0].sum(axis=0) * (np.arange(64) - 32) ** 2).sum()
    np.testing.assert_allclose(spread, sigma**2, rtol=0.15)


def test_blur_leaves_an_even_picture_even_up_to_its_edges():
    np.testing.assert_allclose(blurred(plain(), 2.0), 0.25, atol=1e-6)


def test_no_blur_changes_nothing():
    image = spot()
    assert blurred(image, 0.0) is image


def test_motion_smears_along_its_way_and_leaves_the_middle_in_place():
    picture = develop(spot(), Effects(motion_px=(6.0, 0.0)))
    columns = np.flatnonzero(picture[32, :, 0])
    assert columns[-1] - columns[0] in (6, 7)
    assert np.count_nonzero(picture[..., 0].any(axis=1)) == 1
    np.testing.assert_allclose(centre(picture), (32, 32), atol=0.05)


def test_noise_is_nearly_normal_and_of_the_size_that_is_asked_for():
    noise = develop(plain(0.25), Effects(noise=0.04, seed=3)).astype(float) - 127.5
    np.testing.assert_allclose(noise.std(), 0.04 * 255, rtol=0.03)
    assert abs(noise.mean()) < 0.4
    assert np.mean(np.abs(noise) > 2 * noise.std()) == pytest.approx(0.045, abs=0.015)


def test_noise_follows_the_seed_and_channels_do_not_share_it():
    one, same, other = (develop(plain(), Effects(noise=0.04, seed=s)) for s in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(one[..., 0].ravel(), one[..., 1].ravel())[0, 1]) < 0.05


def test_lengths_follow_the_size_of_the_picture():
    wide = develop(spot(128), Effects(motion_px=(6.0, 0.0)))
    columns = np.flatnonzero(wide[64, :, 0])
    assert columns[-1] - columns[0] in (12, 13)
