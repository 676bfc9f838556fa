"""Whether two annotators' poses agree, and the mean of several poses that do.

Shapes: N poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, angle_deg, mean_rotation, read_pose, write_pose
from flywheel.records import Array, Json

_SAME_CM, _SAME_DEG = 1.0, 10.0
_MOST_CM, _MOST_DEG = 3.0, 30.0
_SIGMAS = 3.0
_LEAST_STD_CM, _LEAST_STD_DEG = 0.05, 0.25
"""no mark is more exact, so an answer that claims to be exact does not outweigh all others"""
_FAR = 2.0
"""sigmas beyond which an answer's pull no longer grows (Huber)"""
_STEPS = 10


def agree(part: Part, one: Json, other: Json) -> bool:
    """Whether two answers are the same pose, in any of the part's symmetric positions.

    Within 1 cm and 10 degrees they are: two careful annotators who mark a picture of 64 pixels
    differ by that much. Where the marks say little, as for a part far away or half hidden, the
    poses may differ by three sigmas of both, but never by more than 3 cm or 30 degrees: otherwise
    a pose about which nothing is known would agree with every other.
    """
    first, second = read_pose(one), read_pose(other)
    apart_cm = 100.0 * float(np.linalg.norm(first.position_m - second.position_m))
    apart_deg = float(angle_deg(first.rotation, second.rotation @ part.symmetries).min())
    cm = _SIGMAS * float(np.hypot(first.std_cm, second.std_cm))
    deg = _SIGMAS * float(np.hypot(first.std_deg, second.std_deg))
    is_near_cm = apart_cm <= np.clip(cm, _SAME_CM, _MOST_CM)
    is_near_deg = apart_deg <= np.clip(deg, _SAME_DEG, _MOST_DEG)
    return bool(is_near_cm and is_near_deg)


def merge(part: Part, answers: Sequence[Json]) -> Json:
    """The mean pose of answers that agree.

    All are brought to the symmetric position nearest to the first, then averaged: weights
    1 / std^2, times min(1, 2 std / distance) of Huber's M-estimate, from the geodesic median.
    The std is that of a weighted mean, widened where the answers differ more than they should.
    Source: Huber (1964), Robust estimation of a location parameter.

    Raises:
        ValueError: there is no answer.
    """
    if not answers:
        raise ValueError("0 answers have no mean; pass at least one")
    if len(answers) == 1:
        return answers[0]
    poses = [read_pose(answer) for answer in answers]
    rotations = np.array([nearest_turn(part, pose.rotation, poses[0].rotation) for pose in poses])
    positions = np.array([pose.position_m for pose in poses])
    std_cm = np.maximum([pose.std_cm for pose in poses], _LEAST_STD_CM)
    std_deg = np.maximum([pose.std_deg for pose in poses], _LEAST_STD_DEG)
    rotation = mean_rotation(rotations, 1.0 / std_deg**2)
    position = np.median(positions, axis=0)
    for _ in range(_STEPS):
        position = position + _pull(positions - position, std_cm / 100.0)
        rotation = _turned(rotation, _pull(_gaps(rotations, rotation), np.radians(std_deg)))
    merged = Pose(
        rotation=rotation,
        position_m=position,
        camera=poses[0].camera,
        std_cm=_spread(100.0 * (positions - position), std_cm),
        std_deg=_spread(np.degrees(_gaps(rotations, rotation)), std_deg),
    )
    return write_pose(merged)


def nearest_turn(part: Part, rotation: Array, wanted: Array) -> Array:
    """(3, 3), the rotation after which the part looks the same that is nearest to the wanted one."""
    turned = rotation @ part.symmetries
    nearest: Array = turned[np.argmin(angle_deg(turned, wanted))]
    return nearest


def _gaps(rotations: Array, rotation: Array) -> Array:
    """(N, 3) rotation vectors that turn `rotation` into each of them."""
    gaps: Array = Rotation.from_matrix(rotations @ rotation.T).as_rotvec()
    return gaps


def _turned(rotation: Array, step: Array) -> Array:
    turned: Array = Rotation.from_rotvec(step).as_matrix() @ rotation
    return turned


def _pull(gaps: Array, std: Array) -> Array:
    """(3,) the weighted mean of gaps (N, 3), where far ones pull no harder than near ones."""
    distance = np.maximum(np.linalg.norm(gaps, axis=1), 1e-12)
    weights = np.minimum(1.0, _FAR * std / distance) / std**2
    pull: Array = weights @ gaps / weights.sum()
    return pull


def _spread(gaps: Array, std: Array) -> float:
    """One sigma of the mean: (sum 1/std^2)^-1/2, times the root of chi^2 / (N - 1) if above 1."""
    chi2 = float((np.sum(gaps**2, axis=1) / std**2).sum()) / max(1, len(std) - 1)
    return float(np.sqrt(max(1.0, chi2) / np.sum(1.0 / std**2)))
