"""The pose of a part before a camera, and the JSON that answers and labels are.

    {"position_m": [x, y, z], "rotation": [w, x, y, z], "camera": [fx, fy, cx, cy],
     "std_cm": s, "std_deg": d}

A point of the part is seen at x_c = R x_p + t, in the camera's frame. Refuses to know which part
it is, and who found the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.errors import TaskError
from flywheel.records import Array, Json
from flywheel.tasks.pose.camera import Camera, is_number
from flywheel.tasks.pose.rotation import check_rotation, from_quaternion, to_quaternion

_KEYS = ("position_m", "rotation", "camera", "std_cm", "std_deg")
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pose:
    """Where a part is, how it is turned, and how sure that is."""

    rotation: Array
    """(3, 3), part frame -> camera frame"""
    position_m: Array
    """(3,), origin of the part in the camera's frame, metres"""
    camera: Camera
    """the intrinsics under which the part was seen"""
    std_cm: float = 0.0
    """one sigma of the position, cm; 0 where it is exact, as in rendered data"""
    std_deg: float = 0.0
    """one sigma of the rotation, degrees; 0 where it is exact"""

    def transform(self, points: Array) -> Array:
        """Points (..., 3) of the part -> (..., 3) of the camera's frame, metres."""
        moved: Array = points @ self.rotation.T + self.position_m
        return moved


def read_pose(answer: Json) -> Pose:
    """The pose that an answer or a label says.

    Raises:
        TaskError: it is none; the message names the key and the value.
    """
    if not isinstance(answer, dict) or answer.keys() != set(_KEYS):
        found = sorted(map(str, answer)) if isinstance(answer, dict) else repr(answer)[:80]
        raise TaskError(f"{found} is no pose; write an object with exactly {', '.join(_KEYS)}")
    quaternion = _numbers(answer, "rotation", 4)
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > _LENGTH_TOLERANCE:
        raise TaskError(
            f"rotation = {answer['rotation']!r:.90} is a quaternion w, x, y, z of length "
            f"{length:.6g}; it must be 1: divide it by its length"
        )
    try:
        camera = Camera.read(answer["camera"])
    except ValueError as error:
        raise TaskError(str(error)) from error
    return Pose(
        rotation=from_quaternion(quaternion),
        position_m=_numbers(answer, "position_m", 3),
        camera=camera,
        std_cm=_spread(answer, "std_cm"),
        std_deg=_spread(answer, "std_deg"),
    )


def write_pose(pose: Pose) -> Json:
    """The JSON of a pose; equal poses give equal texts.

    Raises:
        TaskError: its rotation is none, or a number is not finite.
    """
    try:
        check_rotation(pose.rotation)
    except ValueError as error:
        raise TaskError(f"a pose cannot be written: {error}") from error
    answer = {
        "position_m": [float(value) for value in pose.position_m],
        "rotation": [float(value) for value in to_quaternion(pose.rotation)],
        "camera": [float(value) for value in pose.camera.values],
        "std_cm": float(pose.std_cm),
        "std_deg": float(pose.std_deg),
    }
    read_pose(answer)  # what is written can be read
    return answer


def _numbers(answer: dict[str, Json], key: str, count: int) -> Array:
    values = answer[key]
    if isinstance(values, list | tuple) and len(values) == count and all(map(is_number, values)):
        return np.array(values, dtype=np.float64)
    raise TaskError(f"{key} = {values!r:.90} is no list of {count} finite numbers; write one")


def _spread(answer: dict[str, Json], key: str) -> float:
    value = answer[key]
    if is_number(value) and value >= 0:
        return float(value)
    raise TaskError(f"{key} = {value!r:.60} is no finite number >= 0; write 0.0 where it is exact")
