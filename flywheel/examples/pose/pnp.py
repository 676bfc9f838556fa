"""The pose under which given points of a part are seen at given places (perspective-n-point).

OpenCV gives a start; our own weighted least squares over the whole batch finish it, because only
they use the uncertainty of each point and give that of the pose. Annotators swap two names, or slip
with one point; both leave all the other marks in place, so that every single repair can be tried.

Shapes: B views, K points. Rays are normalised image coordinates, (u - cx) / fx and (v - cy) / fy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy import stats
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.posing import Camera, Pose, project, rays
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
    for index, sight in enumerate(views.rays):
        for method in (cv2.SOLVEPNP_SQPNP, cv2.SOLVEPNP_EPNP):
            found = _opencv(views.points, sight, method)
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


_FALSE_ALARM = 1e-4
"""chance that marks as exact as their std says are taken for a mistake; with one test for each mark,
an exact annotator is stopped about once in a thousand pictures"""
_NO_WEIGHT = 1e6
"""with so many times its std, a mark does not count"""
_PREFER_SWAP = 2.0
"""two names are exchanged more often than one point is lost, and it explains all marks"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Marks:
    """Where keypoints were marked."""

    names: tuple[str, ...]
    points: Array
    """(K, 3), the part's frame, metres"""
    pixels: Array
    """(K, 2)"""
    std_px: Array
    """(K,) one sigma of each"""
    camera: Camera


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """The pose that fits marks best, and how well it does."""

    pose: Pose
    ratio: float
    """root of chi^2 over its degrees of freedom, about 1 for good marks; infinite for no pose"""
    freedom: int
    """2 K - 6 for K marks that count"""
    distances_px: Array
    """(K,) of the marks from where the pose puts them; NaN where that is behind the camera"""

    @property
    def chi2(self) -> float:
        """Sum of the squared distances over their variances."""
        return self.ratio**2 * max(self.freedom, 1)

    @property
    def is_good(self) -> bool:
        """Whether the marks belong together, by chi^2."""
        return self.chi2 <= float(stats.chi2.isf(_FALSE_ALARM, max(self.freedom, 1)))

    @property
    def residual_px(self) -> float:
        """Root mean square of the distances."""
        return float(np.sqrt(np.mean(self.distances_px**2)))


def fit(marks: Marks) -> Fit:
    """The pose that fits marks best; their points must pass `pnp.check_points`."""
    return _fits(marks, marks.pixels[None], marks.std_px[None], len(marks.names))[0]


def outlier(marks: Marks, found: Fit) -> bool:
    """Whether one mark is so far from where the others put it that it must be a mistake.

    Formula: chi^2 falls by more than its quantile for two numbers when the mark is left out. It
    sees a point that slipped by a few pixels, which all marks together still hide.
    Source: Baarda (1968), A testing procedure for use in geodetic networks.
    """
    if found.freedom <= 2:  # four marks: without one of them nothing is left to compare
        return False
    without, _ = _best_without(marks)
    return found.chi2 - without.chi2 > float(stats.chi2.isf(_FALSE_ALARM, 2))


def explain(marks: Marks, found: Fit) -> str:
    """A line for the annotator on marks that fit no pose: two are swapped, or one is misplaced."""
    swapped, pair = _best_swap(marks)
    without, lost = _best_without(marks)
    if swapped.is_good and swapped.ratio <= _PREFER_SWAP * without.ratio:
        one, other = (marks.names[index] for index in pair)
        return (
            f"{one!r} and {other!r} look swapped: residual {found.residual_px:.1f} px, swapped "
            f"back {swapped.residual_px:.1f} px; exchange their names"
        )
    if without.is_good:
        return (
            f"{marks.names[lost]!r} lies {without.distances_px[lost]:.0f} px from where the "
            "others put it; move it there, or take it away"
        )
    return (
        f"the {len(marks.names)} marks fit no pose of the part: residual "
        f"{found.residual_px:.1f} px, and no exchange of two names and no mark left out repairs it; "
        "look at each name again"
    )


def _best_swap(marks: Marks) -> tuple[Fit, tuple[int, int]]:
    count = len(marks.names)
    pairs = list(itertools.combinations(range(count), 2))
    orders = np.tile(np.arange(count), (len(pairs), 1))
    for order, (one, other) in zip(orders, pairs, strict=True):
        order[[one, other]] = other, one
    # A mark keeps its std: what is hard to see stays so under another name.
    fits = _fits(marks, marks.pixels[orders], marks.std_px[orders], count)
    best = int(np.argmin([found.ratio for found in fits]))
    return fits[best], pairs[best]


def _best_without(marks: Marks) -> tuple[Fit, int]:
    count = len(marks.names)
    std = np.where(np.eye(count, dtype=bool), _NO_WEIGHT * marks.std_px, marks.std_px)
    fits = _fits(marks, np.tile(marks.pixels, (count, 1, 1)), std, count - 1)
    best = int(np.argmin([found.ratio for found in fits]))
    return fits[best], best


def _fits(marks: Marks, pixels: Array, std_px: Array, num_counted: int) -> list[Fit]:
    """A fit for each of B readings of the same marks: pixels (B, K, 2) and std (B, K)."""
    focal = np.sqrt(marks.camera.fx * marks.camera.fy)
    solution = solve_batch(marks.points, rays(pixels, marks.camera), std_px / focal)
    freedom = 2 * num_counted - 6
    chi2 = solution.residual**2 * 2 * len(marks.names)
    ratios = np.where(solution.in_front & (freedom > 0), np.sqrt(chi2 / max(freedom, 1)), np.inf)
    return [
        _fit(marks, solution, index, pixels[index], ratio=float(ratio), freedom=freedom)
        for index, ratio in enumerate(ratios)
    ]


def _fit(
    marks: Marks, solution: Solution, index: int, pixels: Array, *, ratio: float, freedom: int
) -> Fit:
    covariance = solution.covariance[index]
    pose = Pose(
        rotation=solution.rotation[index],
        position_m=solution.position_m[index],
        camera=marks.camera,
        std_cm=float(100 * np.sqrt(np.trace(covariance[3:, 3:]))),
        std_deg=float(np.degrees(np.sqrt(np.trace(covariance[:3, :3])))),
    )
    seen = project(pose.transform(marks.points), marks.camera)
    distances = np.linalg.norm(seen - pixels, axis=1)
    return Fit(pose=pose, ratio=ratio, freedom=freedom, distances_px=distances)
