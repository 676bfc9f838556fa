"""Poses from points: exact without noise, as sure as they are right with it, plain about the rest."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.pnp import check_points, solve_batch
from flywheel.examples.pose.posing import angle_deg

POINTS = np.random.default_rng(5).uniform([-0.05, -0.03, -0.02], [0.05, 0.03, 0.02], (9, 3))


class Views(NamedTuple):
    rotations: np.ndarray
    positions: np.ndarray
    rays: np.ndarray
    std: np.ndarray


def _views(number, noise, points=POINTS):
    """Views of the points from 0.3 to 0.5 m; each ray has a noise of its own about `noise`."""
    rng = np.random.default_rng(number)
    rotations = Rotation.random(number, rng=rng).as_matrix()
    positions = rng.uniform([-0.05, -0.05, 0.3], [0.05, 0.05, 0.5], (number, 3))
    seen = points @ np.swapaxes(rotations, 1, 2) + positions[:, None]
    std = noise * np.exp(rng.normal(0, 0.5, (number, len(points))))
    rays = seen[..., :2] / seen[..., 2:] + rng.normal(size=(*std.shape, 2)) * std[..., None]
    return Views(rotations, positions, rays, np.maximum(std, 1e-4))


def _errors(found, views):
    """(B, 6) of the rotation vector and the position."""
    turns = Rotation.from_matrix(views.rotations @ np.swapaxes(found.rotation, 1, 2)).as_rotvec()
    return np.concatenate([turns, views.positions - found.position_m], axis=1)


def _chi2(found, views):
    errors = _errors(found, views)
    return np.einsum("bi,bij,bj->b", errors, np.linalg.inv(found.covariance), errors)


def test_exact_rays_give_the_exact_pose():
    views = _views(50, 0.0)
    assert np.abs(_errors(solve_batch(POINTS, views.rays, views.std), views)).max() < 1e-9


@pytest.mark.parametrize("flat", [[1, 1, 0], [1, 0, 1]])
def test_points_of_a_plane_are_enough(flat):
    views = _views(50, 0.0, POINTS * flat)
    found = solve_batch(POINTS * flat, views.rays, views.std)
    assert np.abs(_errors(found, views)).max() < 1e-7


def test_the_covariance_is_as_large_as_the_errors_are():
    views = _views(800, 0.003)
    chi2 = _chi2(solve_batch(POINTS, views.rays, views.std), views)
    # Widened where the fit is worse than it should be, and there only, so a little below 6.
    assert 5.0 < chi2.mean() < 6.3
    assert (chi2 < stats.chi2(6).ppf(0.9)).mean() == pytest.approx(0.9, abs=0.05)


def test_std_that_is_given_too_small_is_widened_by_the_misfit():
    views = _views(400, 0.003)
    found = solve_batch(POINTS, views.rays, views.std / 4)
    assert 4.0 < _chi2(found, views).mean() < 9.0
    assert found.residual.mean() == pytest.approx(4 * np.sqrt(12 / 18), rel=0.1)


def test_unsure_points_hardly_count():
    views = _views(300, 0.001)
    views.rays[:, :2] += np.random.default_rng(0).normal(0, 0.1, (300, 2, 2))
    views.std[:, :2] = 0.1
    found = solve_batch(POINTS, views.rays, views.std)
    assert np.median(angle_deg(found.rotation, views.rotations)) < 2.0


def test_a_batch_says_what_each_view_says_alone():
    views = _views(20, 0.003)
    found = solve_batch(POINTS, views.rays, views.std)
    for index in range(20):
        one = slice(index, index + 1)
        alone = solve_batch(POINTS, views.rays[one], views.std[one])
        np.testing.assert_allclose(alone.rotation, found.rotation[one], atol=1e-6)
        np.testing.assert_allclose(alone.covariance, found.covariance[one], rtol=1e-3, atol=1e-12)


def test_a_part_far_away_is_found_too():
    far = np.array([0.1, 0.0, 20.0])
    rays = (POINTS + far)[:, :2] / (POINTS + far)[:, 2:]
    found = solve_batch(POINTS, rays[None], np.full((1, 9), 1e-5))
    assert np.abs(found.position_m[0] - far).max() < 0.02


def test_no_pose_beside_it_fits_better():
    views = _views(50, 0.003)
    found = solve_batch(POINTS, views.rays, views.std)
    rng = np.random.default_rng(1)
    for _ in range(20):
        turn = Rotation.from_rotvec(rng.normal(0, 0.01, (50, 3))).as_matrix() @ found.rotation
        shift = found.position_m + rng.normal(0, 0.001, (50, 3))
        seen = POINTS @ np.swapaxes(turn, 1, 2) + shift[:, None]
        misfit = (seen[..., :2] / seen[..., 2:] - views.rays) / views.std[..., None]
        assert (np.sqrt((misfit**2).mean(axis=(1, 2))) >= found.residual - 1e-9).all()


def test_rays_without_sense_still_give_a_finite_pose():
    rays = np.random.default_rng(2).normal(0, 1, (30, 9, 2))
    found = solve_batch(POINTS, np.concatenate([rays, np.zeros((1, 9, 2))]), np.full((31, 9), 0.1))
    assert all(np.isfinite(part).all() for part in (found.rotation, found.position_m))
    assert np.isfinite(found.covariance).all()


def test_an_empty_batch_is_an_empty_answer():
    found = solve_batch(POINTS, np.zeros((0, 9, 2)), np.zeros((0, 9)))
    assert found.rotation.shape == (0, 3, 3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_points_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} points; a pose needs at least 4"):
        check_points(POINTS[:count])


def test_points_on_a_line_are_refused():
    points = np.linspace(0, 0.1, 5)[:, None] * np.array([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="lie on a line"):
        check_points(points)
