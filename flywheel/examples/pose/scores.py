"""How wrong poses are: ADD, ADD-S, MSSD, MSPD, and plain errors of position and rotation.

All are for B poses at once, in bounded memory. A found pose is (R', t'), the true one (R, t), x a
point of the part, S one of its symmetries. Also whether a gripper closes on the part, by a plain
rule of geometry: friction, weight and neighbouring parts do not count, so a robot that reports its
own outcomes knows better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull

from flywheel.errors import TaskError
from flywheel.examples.pose.camera import Camera, project
from flywheel.examples.pose.mesh import Nearest
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, angle_deg, read_pose
from flywheel.records import Array, Json

MOST_PX = 10_000.0
"""error of a point that is not in front of the camera, and the largest of any point"""

_MOST_POINTS = 1 << 15  # of all poses at a time; these stay in the processor's cache


_PAD_CM = 2.0
_MOST_TURN_DEG = 30.0
_MOST_MISS = 0.25
_PICK_SECONDS, _FAILED_SECONDS = 6.0, 12.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Stack:
    """B poses in one piece."""

    rotations: Array
    """(B, 3, 3)"""
    positions: Array
    """(B, 3), metres"""

    @staticmethod
    def of(poses: Sequence[Pose]) -> _Stack:
        return _Stack(
            rotations=np.array([pose.rotation for pose in poses], np.float64).reshape(-1, 3, 3),
            positions=np.array([pose.position_m for pose in poses], np.float64).reshape(-1, 3),
        )

    def rows(self, chosen: slice) -> _Stack:
        return _Stack(rotations=self.rotations[chosen], positions=self.positions[chosen])

    def turned(self, symmetry: Array) -> _Stack:
        """The poses of the part after it was turned by (3, 3)."""
        return _Stack(rotations=self.rotations @ symmetry, positions=self.positions)

    def transform(self, points: Array) -> Array:
        """(P, 3) -> (B, P, 3)."""
        moved: Array = points @ np.swapaxes(self.rotations, 1, 2)
        moved += self.positions[:, None]
        return moved


def pose_errors(part: Part, found: Sequence[Pose], true: Sequence[Pose]) -> dict[str, Array]:
    """All errors of B found poses, (B,) each.

    * error_cm: distance of the positions; no symmetry moves the origin of the part.
    * error_deg: geodesic distance of the rotations, the least over the part's symmetries; the
      `re` of the BOP toolkit knows no symmetries.
    * add_cm, adds_cm: see `add_cm` and `adds_cm`.
    * mssd_cm: min_S max_x |(R'x + t') - (R S x + t)| over the vertices of the mesh.
    * mspd_px: the same of the projections, both with the camera of the true pose; a point counts
      10,000 px at most, and as many when it is not in front of the camera.

    Source: Hodan et al. (2020), BOP challenge 2020 on 6D object localization, section 2.2.
    Departure: the cap of MSPD, where the toolkit divides by depths of 0 and below.

    Raises:
        ValueError: there are not as many found poses as true ones.
    """
    ours, truth = _pair(found, true)
    return {
        "error_cm": 100.0 * np.linalg.norm(ours.positions - truth.positions, axis=1),
        "error_deg": _least_angle(part, ours, truth),
        "add_cm": add_cm(part, found, true),
        "adds_cm": adds_cm(part, found, true),
        "mssd_cm": _mssd_cm(part, ours, truth),
        "mspd_px": _mspd_px(part, ours, truth, [pose.camera for pose in true]),
    }


def add_cm(part: Part, found: Sequence[Pose], true: Sequence[Pose]) -> Array:
    """(B,), average distance of the part's points, cm; it knows no symmetries, ADD-S does.

    Formula: mean_x |(R'x + t') - (R x + t)|.
    Source: Hinterstoisser et al. (2012); as in PoseCNN, Xiang et al. (2018), equation 5.
    Departure: the points are spread evenly over the surface, where others take the vertices.

    Raises:
        ValueError: there are not as many found poses as true ones.
    """

    def error(ours: _Stack, truth: _Stack) -> Array:
        gaps = _lengths(ours.transform(part.points) - truth.transform(part.points))
        means: Array = gaps.mean(axis=1)
        return means

    return 100.0 * _by_rows(error, *_pair(found, true), len(part.points))


def adds_cm(part: Part, found: Sequence[Pose], true: Sequence[Pose]) -> Array:
    """(B,), average distance to the closest point, cm.

    Formula: mean_x min_y |(R x + t) - (R'y + t')|; distances are taken in the frame of the found
    part, |R''(R x + t - t') - y|, so one index of the points y serves all poses.
    Source: PoseCNN, Xiang et al. (2018), equation 6; `adi` of the BOP toolkit.
    Departure: as for `add_cm`.

    Raises:
        ValueError: there are not as many found poses as true ones.
    """
    index = _index(part)

    def error(ours: _Stack, truth: _Stack) -> Array:
        back = np.swapaxes(ours.rotations, 1, 2)
        gaps = (back @ (truth.positions - ours.positions)[..., None])[..., 0]
        moved = _Stack(rotations=back @ truth.rotations, positions=gaps)
        means: Array = index.distances(moved.transform(index.points)).mean(axis=1)
        return means

    return 100.0 * _by_rows(error, *_pair(found, true), len(part.points))


def auc(errors_cm: Array, most_cm: float = 10.0) -> float:
    """Area under the accuracy-threshold curve up to most_cm, of 0..1; higher is better.

    Formula: (1 / m) integral_0^m share(e < x) dx = mean(max(0, 1 - e / m)).
    Source: PoseCNN, Xiang et al. (2018), section V-B, with m = 10 cm.
    Departure: the exact area; others integrate a curve through the sorted errors.

    Raises:
        ValueError: there are no errors, or most_cm is not above 0.
    """
    if not len(errors_cm) or not most_cm > 0.0:
        raise ValueError(
            f"the area of {len(errors_cm)} errors up to {most_cm} cm is not defined; "
            "give at least one error and a threshold above 0"
        )
    return float(np.maximum(0.0, 1.0 - np.asarray(errors_cm) / most_cm).mean())


@lru_cache(maxsize=8)
def _index(part: Part) -> Nearest:
    return Nearest(part.points)


@lru_cache(maxsize=8)
def _corners(part: Part) -> Array:
    """Vertices of the convex hull: the distance of two poses is largest at one of them."""
    corners: Array = part.vertices[ConvexHull(part.vertices, qhull_options="QJ").vertices]
    return corners


def _pair(found: Sequence[Pose], true: Sequence[Pose]) -> tuple[_Stack, _Stack]:
    if len(found) != len(true):
        raise ValueError(f"{len(found)} found poses and {len(true)} true ones; give a pair of each")
    return _Stack.of(found), _Stack.of(true)


def _lengths(vectors: Array) -> Array:
    lengths: Array = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))
    return lengths


def _slices(num_poses: int, num_points: int) -> Iterator[slice]:
    """Poses whose points fit into memory together."""
    size = max(1, _MOST_POINTS // num_points)
    return (slice(start, start + size) for start in range(0, num_poses, size))


def _by_rows(
    error: Callable[[_Stack, _Stack], Array], ours: _Stack, truth: _Stack, num_points: int
) -> Array:
    """(B,), the error of a few poses at a time."""
    slices = _slices(len(ours.positions), num_points)
    return np.concatenate(
        [np.zeros(0), *(error(ours.rows(rows), truth.rows(rows)) for rows in slices)]
    )


def _least_angle(part: Part, ours: _Stack, truth: _Stack) -> Array:
    least = np.full(len(ours.positions), np.inf)
    for symmetry in part.symmetries:
        least = np.minimum(least, angle_deg(ours.rotations, truth.rotations @ symmetry))
    return least


def _mssd_cm(part: Part, ours: _Stack, truth: _Stack) -> Array:
    corners = _corners(part)

    def error(ours: _Stack, truth: _Stack) -> Array:
        placed, least = ours.transform(corners), np.full(len(ours.positions), np.inf)
        for symmetry in part.symmetries:
            gaps = _lengths(placed - truth.turned(symmetry).transform(corners))
            least = np.minimum(least, gaps.max(axis=1))
        return least

    return 100.0 * _by_rows(error, ours, truth, len(corners))


def _mspd_px(part: Part, ours: _Stack, truth: _Stack, cameras: Sequence[Camera]) -> Array:
    errors = np.full(len(cameras), np.inf)
    for rows in _slices(len(cameras), len(part.vertices)):
        seen = _projected(ours.rows(rows), part.vertices, cameras[rows])
        for symmetry in part.symmetries:
            actual = _projected(truth.rows(rows).turned(symmetry), part.vertices, cameras[rows])
            gaps = np.minimum(_lengths(seen - actual), MOST_PX)
            gaps[np.isnan(gaps)] = MOST_PX  # not in front of the camera
            errors[rows] = np.minimum(errors[rows], gaps.max(axis=1))
    return errors


def _projected(stack: _Stack, points: Array, cameras: Sequence[Camera]) -> Array:
    """(P, 3) -> (B, P, 2) pixels, NaN for what is not in front."""
    placed = stack.transform(points)
    return np.stack(
        [project(points, camera) for points, camera in zip(placed, cameras, strict=True)]
    )


def grasps(part: Part, found: Pose, true: Pose) -> bool:
    """Whether jaws that are placed by the found pose close on the part, which is at the true one.

    Formula: for one of the part's symmetries, with the error split along and across the grip axis,

        |along| + 2 cm sin(tilt) <= clearance   no jaw hits the part; tilt is between grip axes
        across <= diameter / 4                  the jaws do not close beside the part
        turn <= 30 degrees                      the jaws' pads, 4 cm long, lie on its faces

    Source: 100 simulated grasps of a box for each size of error (MuJoCo, 5 and 8 mm of clearance),
    by which the length of the pads is chosen. For errors in any direction the rule's share of
    grasps is within 0.12 of theirs at turns of 0 and 5 degrees; at 20 degrees, theirs is lower.
    """
    axis = part.grip_axis
    back = found.rotation.T
    turned = back @ true.rotation @ part.symmetries  # (S, 3, 3), the true part as the jaws see it
    shift_cm = 100.0 * back @ (true.position_m - found.position_m)
    along_cm = abs(float(axis @ shift_cm))
    across_cm = float(np.linalg.norm(shift_cm - axis * (axis @ shift_cm)))
    sines = np.linalg.norm(np.cross(axis, turned @ axis), axis=1)  # (S,)
    is_free = along_cm + _PAD_CM * sines <= part.grip_clearance_cm
    is_flat = angle_deg(turned, np.eye(3)) <= _MOST_TURN_DEG
    is_there = across_cm <= 100.0 * _MOST_MISS * part.diameter_m
    return is_there and bool((is_free & is_flat).any())


def picks_per_hour(scores: Mapping[str, Array], weights: Array) -> float:
    """Parts picked in an hour, from `grasped`, 0 or 1 a sample; higher is better.

    Formula: 3600 p / (6 p + 12 (1 - p)), p the weighted share that is grasped: a pick takes 6 s, a
    failed one 12 s and picks nothing. NaN when all weights are 0.
    Source: renewal reward; the seconds are those of the example robot.

    Args:
        scores: name -> (N,), one of them is `grasped`.
        weights: (N,), 0 or more.

    Raises:
        TaskError: there is no score `grasped`.
    """
    if "grasped" not in scores:
        raise TaskError(
            f"picks per hour need the score 'grasped', there are {', '.join(sorted(scores))}; "
            "use it in a project of the pose task"
        )
    total = float(weights.sum())
    if total <= 0.0:
        return math.nan
    share = float(weights @ scores["grasped"]) / total
    return 3600.0 * share / (_PICK_SECONDS * share + _FAILED_SECONDS * (1.0 - share))


picks_per_hour.range = (0.0, 3600.0 / _PICK_SECONDS)  # type: ignore[attr-defined]


def pose_scores(part: Part, answer: Json, label: Json) -> dict[str, float]:
    """error_cm, error_deg, add_cm, adds_cm, mssd_cm, mspd_px: lower is better, 0 at best.

    add_cm is ADD(-S): of a part with symmetries it is ADD-S, as PoseCNN reports it, because ADD
    would call a pose wrong that looks the same as the right one.
    add_auc and adds_auc are one sample's part of the area under the accuracy-threshold curve up
    to 10 cm, so that their mean is the area; grasped is 1 where the gripper closes on the part.

    Raises:
        TaskError: one of the two is not a pose.
    """
    found, true = read_pose(answer), read_pose(label)
    errors = dict(pose_errors(part, [found], [true]))
    if len(part.symmetries) > 1:
        errors["add_cm"] = errors["adds_cm"]
    return {
        **{name: float(values[0]) for name, values in errors.items()},
        "add_auc": auc(errors["add_cm"]),
        "adds_auc": auc(errors["adds_cm"]),
        "grasped": float(grasps(part, found, true)),
    }
