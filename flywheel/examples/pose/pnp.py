"""The pose under which given points of a part are seen at given places (perspective-n-point).

OpenCV gives a start; our own weighted least squares over the whole batch finish it, because only
they use the uncertainty of each point and give that of the pose.

Shapes: B views, K points. Rays are normalised image coordinates, (u - cx) / fx and (v - cy) / fy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.records import Array

_FEWEST_POINTS = 4
_MOST_STEPS = 30
_NEAREST_Z = 1e-6
"""in units of the spread of the points: what is nearer counts as behind the camera"""
_LINE = 1e-3
"""second over first singular value, below which points lie on a line"""
_DONE = 1e-9
"""relative gain of the last step, below which the search ends"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solution:
    """The pose, or a batch of B poses, and their uncertainty."""

    rotation: Array
    """(..., 3, 3), part -> camera"""
    position_m: Array
    """(..., 3), the part's origin in the camera frame, in units of the points"""
    covariance: Array
    """(..., 6, 6) of the rotation vector (radians, camera frame) and the position"""
    residual: Array
    """(...) root mean square of the residuals over their std; about 1 where std is right"""
    in_front: Array
    """(...) whether all points lie in front of the camera; where not, the pose is a guess"""


class _Views(NamedTuple):
    """The input: where K points of the part are seen."""

    points: Array
    """(K, 3)"""
    rays: Array
    """(B, K, 2)"""
    std: Array
    """(B, K) in units of the rays"""


class _State(NamedTuple):
    """The current estimate of the search."""

    rotation: Array
    """(B, 3, 3)"""
    position: Array
    """(B, 3)"""
    cost: Array
    """(B,) sum of squared residuals; infinite with a point behind the camera"""


def check_points(points: Array) -> None:
    """Check that the points (K, 3) determine a pose.

    Raises:
        ValueError: fewer than four points, or points on a line.
    """
    if len(points) < _FEWEST_POINTS:
        raise ValueError(f"{len(points)} points; a pose needs at least {_FEWEST_POINTS}")
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[1] <= _LINE * spread[0]:
        raise ValueError(
            f"the {len(points)} points lie on a line, so that the part could turn about it; "
            "add one beside the line"
        )


def solve_batch(points: Array, rays: Array, std: Array) -> Solution:
    """The pose of each view that minimises the squared residuals over their variance.

    Start: OpenCV's SQPNP (Terzakis and Lourakis, ECCV 2020), unweighted, and its mirror image in
    depth, since a flat part seen from afar looks nearly the same tilted the other way. Both are
    refined by Levenberg and Marquardt's steps on SE(3), and the better one is returned.

    Covariance: (J^T W J)^-1 with W = diag(1 / std^2), times max(1, chi^2 / (2 K - 6)): points that
    fit worse than they should widen it, a lucky fit does not narrow it.

    Args:
        points: (K, 3) in the part's frame; at least four, not on a line.
        rays: (B, K, 2) where they are seen.
        std: (B, K) one sigma of the rays, in their units.
    """
    views = _Views(points.astype(np.float64), rays.astype(np.float64), std.astype(np.float64))
    start = _start(views)
    states = [_refine(views, *start), _refine(views, *_mirrored(points, *start))]
    best = np.argmin([state.cost for state in states], axis=0)
    rotation = np.where(best[:, None, None] == 0, states[0].rotation, states[1].rotation)
    position = np.where(best[:, None] == 0, states[0].position, states[1].position)
    seen = _camera_points(views, rotation, position)
    residuals, slopes = _linear(views, seen, position)
    chi2 = (residuals**2).sum(axis=1)
    widening = np.maximum(1.0, chi2 / max(1, residuals.shape[1] - 6))
    normal = np.swapaxes(slopes, 1, 2) @ slopes
    return Solution(
        rotation=rotation,
        position_m=position,
        covariance=np.linalg.pinv(normal, hermitian=True) * widening[:, None, None],
        residual=np.sqrt(chi2 / residuals.shape[1]),
        in_front=_in_front(views, seen),
    )


def _start(views: _Views) -> tuple[Array, Array]:
    """(B, 3, 3) and (B, 3): OpenCV's pose where it has one, else upright where the points are."""
    rotation = np.tile(np.eye(3), (len(views.rays), 1, 1))
    position = _looking_at(views)
    for index, rays in enumerate(views.rays):
        for method in (cv2.SOLVEPNP_SQPNP, cv2.SOLVEPNP_EPNP):
            found = _opencv(views.points, rays, method)
            if found is not None:
                rotation[index], position[index] = found
                break
    return rotation, position


def _opencv(points: Array, rays: Array, method: int) -> tuple[Array, Array] | None:
    try:
        is_found, vector, shift = cv2.solvePnP(points, rays, np.eye(3), np.zeros(4), flags=method)
    except cv2.error:  # SQPNP refuses rays that lie closer together than 0.003
        return None
    if not is_found or not (np.isfinite(vector).all() and np.isfinite(shift).all()):
        return None
    rotation = Rotation.from_rotvec(np.ravel(vector)).as_matrix()
    position: Array = np.ravel(shift)
    return (rotation, position) if (points @ rotation[2] + position[2] > 0).all() else None


def _looking_at(views: _Views) -> Array:
    """(B, 3): along the mean ray, at the distance from which the points are spread as seen."""
    centre = views.rays.mean(axis=1)
    size = np.sqrt(((views.points - views.points.mean(axis=0)) ** 2).sum(axis=1).mean() * 2 / 3)
    seen = np.sqrt(((views.rays - centre[:, None]) ** 2).sum(axis=2).mean(axis=1))
    depth = size / np.maximum(seen, 1e-3)
    ray = np.concatenate([centre, np.ones((len(centre), 1))], axis=1)
    found: Array = depth[:, None] * ray
    return found


def _mirrored(points: Array, rotation: Array, position: Array) -> tuple[Array, Array]:
    """The pose that looks the same to first order.

    The depth of every point about the middle is reversed, and so is the thinnest direction of
    the points in the part's frame, so that it is a rotation again.
    """
    middle = points.mean(axis=0)
    thinnest = np.linalg.svd(points - middle)[2][2]
    centre = rotation @ middle + position
    sight = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    flip = np.eye(3) - 2 * sight[:, :, None] * sight[:, None, :]
    turned = flip @ rotation @ (np.eye(3) - 2 * np.outer(thinnest, thinnest))
    return turned, centre - turned @ middle


def _refine(views: _Views, rotation: Array, position: Array) -> _State:
    """Levenberg-Marquardt with one damping for each view; a step without a gain is undone."""
    state = _State(rotation, position, _cost(views, rotation, position))
    damping: Array = np.full(len(rotation), 1e-3)
    for _ in range(_MOST_STEPS):
        seen = _camera_points(views, state.rotation, state.position)
        residuals, slopes = _linear(views, seen, state.position)
        normal = np.swapaxes(slopes, 1, 2) @ slopes
        scale = np.einsum("bii->bi", normal)
        damped = normal + _diagonal(damping[:, None] * scale + 1e-12 * scale.max(axis=1)[:, None])
        downhill = (np.swapaxes(slopes, 1, 2) @ residuals[:, :, None])[:, :, 0]
        step = np.linalg.solve(damped, -downhill[:, :, None])[:, :, 0]
        tried = _moved(views, state, step)
        is_better = tried.cost < state.cost
        with np.errstate(invalid="ignore"):
            gain = np.where(is_better, (state.cost - tried.cost) / state.cost, 0.0)
        is_done = (gain <= _DONE) & (is_better | (damping > 1e6) | (state.cost < 1e-18))
        state = _State(
            np.where(is_better[:, None, None], tried.rotation, state.rotation),
            np.where(is_better[:, None], tried.position, state.position),
            np.where(is_better, tried.cost, state.cost),
        )
        damping = np.clip(np.where(is_better, damping / 10, damping * 10), 1e-9, 1e9)
        if is_done.all():
            break
    return state


def _moved(views: _Views, state: _State, step: Array) -> _State:
    turn = Rotation.from_rotvec(step[:, :3]).as_matrix()
    rotation, position = turn @ state.rotation, state.position + step[:, 3:]
    return _State(rotation, position, _cost(views, rotation, position))


def _cost(views: _Views, rotation: Array, position: Array) -> Array:
    seen = _camera_points(views, rotation, position)
    residuals = _residuals(views, seen)
    return np.where(_in_front(views, seen), (residuals**2).sum(axis=(1, 2)), np.inf)


def _camera_points(views: _Views, rotation: Array, position: Array) -> Array:
    """(B, K, 3) in the camera frame."""
    seen: Array = views.points @ np.swapaxes(rotation, 1, 2) + position[:, None, :]
    return seen


def _in_front(views: _Views, seen: Array) -> Array:
    nearest = _NEAREST_Z * np.ptp(views.points, axis=0).max()
    found: Array = (seen[:, :, 2] > nearest).all(axis=1)
    return found


def _residuals(views: _Views, seen: Array) -> Array:
    """(B, K, 2) projected minus seen, over std."""
    z = np.where(np.abs(seen[:, :, 2:]) < _NEAREST_Z, _NEAREST_Z, seen[:, :, 2:])
    found: Array = (seen[:, :, :2] / z - views.rays) / views.std[:, :, None]
    return found


def _linear(views: _Views, seen: Array, position: Array) -> tuple[Array, Array]:
    """Residuals (B, 2 K) and their slopes (B, 2 K, 6) by turn about the part's origin and shift."""
    x, y, z = np.moveaxis(seen, 2, 0)
    z = np.where(np.abs(z) < _NEAREST_Z, _NEAREST_Z, z)
    zero = np.zeros_like(z)
    rows = [[1 / z, zero, -x / z**2], [zero, 1 / z, -y / z**2]]
    by_shift = np.moveaxis(np.array(rows), (0, 1), (2, 3)) / views.std[:, :, None, None]
    # A small turn w moves a point by w x arm, so that its slope along w is arm x (slope by shift).
    arm = seen - position[:, None, :]
    by_turn = np.cross(arm[:, :, None, :], by_shift)
    slopes = np.concatenate([by_turn, by_shift], axis=3)
    flat = (len(seen), 2 * len(views.points))
    return _residuals(views, seen).reshape(flat), slopes.reshape(*flat, 6)


def _diagonal(values: Array) -> Array:
    """(B, N) -> (B, N, N)."""
    return values[:, :, None] * np.eye(values.shape[1])
