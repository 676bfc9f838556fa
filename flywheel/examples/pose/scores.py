"""How wrong poses are: ADD, ADD-S, MSSD, MSPD, and plain errors of position and rotation.

A found pose is (R', t'), the true one (R, t), x a point of the part, S one of its symmetries. Also whether a gripper closes on the part, by a plain
rule of geometry: friction, weight and neighbouring parts do not count, so a robot that reports its
own outcomes knows better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from flywheel.errors import TaskError
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, angle_deg, project, read_pose
from flywheel.records import Array, Json

MOST_PX = 10_000.0
"""error of a point that is not in front of the camera, and the largest of any point"""
_AREA_CM = 10.0
"""up to which the area under the accuracy-threshold curve is taken"""
_PAD_CM = 2.0
_MOST_TURN_DEG = 30.0
_MOST_MISS = 0.25
_PICK_SECONDS, _FAILED_SECONDS = 6.0, 12.0


def pose_errors(part: Part, found: Pose, true: Pose) -> dict[str, float]:
    """All errors of a found pose.

    * error_cm: distance of the positions; no symmetry moves the origin of the part.
    * error_deg: geodesic distance of the rotations, the least over the part's symmetries; the
      `re` of the BOP toolkit knows no symmetries.
    * add_cm: mean_x |(R'x + t') - (R x + t)|, which knows no symmetries.
    * adds_cm: mean_x min_y |(R x + t) - (R'y + t')|; distances are taken in the frame of the found
      part, so one index of the points y serves all poses.
    * mssd_cm: min_S max_x |(R'x + t') - (R S x + t)| over the vertices of the mesh.
    * mspd_px: the same of the projections, both with the camera of the true pose; a point counts
      10,000 px at most, and as many when it is not in front of the camera.

    Source: Hodan et al. (2020), BOP challenge 2020 on 6D object localization, section 2.2; PoseCNN,
    Xiang et al. (2018), equations 5 and 6.
    Departure: the points of ADD and ADD-S are spread evenly over the surface, where others take the
    vertices; and the cap of MSPD, where the toolkit divides by depths of 0 and below.
    """
    corners, symmetric = _corners(part), true.rotation @ part.symmetries
    actual = [replace(true, rotation=rotation) for rotation in symmetric]
    placed, seen = found.transform(corners), project(found.transform(part.vertices), true.camera)
    back = (true.transform(part.points) - found.position_m) @ found.rotation
    return {
        "error_cm": 100.0 * float(np.linalg.norm(found.position_m - true.position_m)),
        "error_deg": float(angle_deg(found.rotation, symmetric).min()),
        "add_cm": 100.0 * _gaps(found.transform(part.points), true.transform(part.points)).mean(),
        "adds_cm": 100.0 * float(_index(part).query(back)[0].mean()),
        "mssd_cm": 100.0 * min(_gaps(placed, one.transform(corners)).max() for one in actual),
        "mspd_px": min(_miss_px(seen, one, part) for one in actual),
    }


def _gaps(one: Array, other: Array) -> Array:
    gaps: Array = np.linalg.norm(one - other, axis=1)
    return gaps


def _miss_px(seen: Array, actual: Pose, part: Part) -> float:
    gaps = _gaps(seen, project(actual.transform(part.vertices), actual.camera))
    # NaN is not in front of the camera.
    return float(np.nan_to_num(gaps, nan=MOST_PX).clip(max=MOST_PX).max())


@lru_cache(maxsize=8)
def _index(part: Part) -> cKDTree:
    return cKDTree(part.points)


@lru_cache(maxsize=8)
def _corners(part: Part) -> Array:
    """Vertices of the convex hull: the distance of two poses is largest at one of them."""
    corners: Array = part.vertices[ConvexHull(part.vertices, qhull_options="QJ").vertices]
    return corners


def area(error_cm: float) -> float:
    """One sample's part of the area under the accuracy-threshold curve up to 10 cm, of 0..1.

    Formula: (1 / m) integral_0^m [e < x] dx = max(0, 1 - e / m); the mean over samples is the area.
    Source: PoseCNN, Xiang et al. (2018), section V-B, with m = 10 cm.
    Departure: the exact area; others integrate a curve through the sorted errors.
    """
    return max(0.0, 1.0 - error_cm / _AREA_CM)


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
    would call a pose wrong that looks the same as the right one. add_auc and adds_auc are their
    `area`; grasped is 1 where the gripper closes on the part.

    Raises:
        TaskError: one of the two is not a pose.
    """
    found, true = read_pose(answer), read_pose(label)
    errors = pose_errors(part, found, true)
    if len(part.symmetries) > 1:
        errors["add_cm"] = errors["adds_cm"]
    return {
        **errors,
        "add_auc": area(errors["add_cm"]),
        "adds_auc": area(errors["adds_cm"]),
        "grasped": float(grasps(part, found, true)),
    }
