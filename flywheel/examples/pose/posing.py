"""The pose of a part before a camera, and its JSON form in answers and labels.

    {"position_m": [x, y, z], "rotation": [w, x, y, z], "camera": [fx, fy, cx, cy],
     "std_cm": s, "std_deg": d}

A point of the part is seen at x_c = R x_p + t, in the camera's frame. Rotations are (3, 3)
matrices in code; quaternions are written w first and with w >= 0, so that one rotation has one
text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.errors import TaskError
from flywheel.examples.pose.camera import Camera
from flywheel.records import Array, Json, is_number

_TOLERANCE = 1e-5
_SAME_RAD = 1e-10
_NEAR_RAD = 1e-7
_MOST_STEPS = 200
_NOTHING = 1e-14


_KEYS = ("position_m", "rotation", "camera", "std_cm", "std_deg")
_LENGTH_TOLERANCE = 1e-3


def angle_deg(one: Array, other: Array) -> Array:
    """Geodesic distance of rotations (..., 3, 3), which broadcast -> (...), degrees of 0..180.

    Formula: atan2(2 sin a, 2 cos a) with 2 sin a = |vee(R - R')| and 2 cos a = tr(R) - 1 of
    R = one other'.
    Source: the `re` of the BOP toolkit is acos((tr(R) - 1) / 2).
    Departure: acos loses half of the digits near 0 and 180 degrees, atan2 loses none.
    """
    turn = one @ np.swapaxes(other, -1, -2)
    skew = np.stack(
        [turn[..., i, j] - turn[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], axis=-1
    )
    cosine = np.trace(turn, axis1=-2, axis2=-1) - 1.0
    angle: Array = np.degrees(np.arctan2(np.linalg.norm(skew, axis=-1), cosine))
    return angle


def mean_rotation(rotations: Array, weights: Array) -> Array:
    """The weighted geodesic median (3, 3) of rotations (N, 3, 3); a few outliers do not move it.

    Formula: argmin_R sum_i w_i angle(R_i, R), by Weiszfeld's steps
    R <- exp(sum_i v_i log(R_i R') / sum_i v_i) R with v_i = w_i / angle_i, from the chordal mean.
    Source: Hartley, Trumpf, Dai and Li (2013), Rotation averaging, section 7.
    Departure: angles below 1e-7 rad count as 1e-7, so a step never divides by 0.

    Raises:
        ValueError: there is no rotation, or weights are not N numbers >= 0 with a positive sum.
    """
    weights = np.asarray(weights, dtype=np.float64)
    total = float(weights.sum()) if len(weights) else 0.0
    wrong = len(weights) != len(rotations) or not np.isfinite(total)
    if wrong or total <= 0.0 or weights.min() < 0.0:
        raise ValueError(
            f"the mean of {len(rotations)} rotations with weights {weights.tolist()!r:.60}: "
            "give at least one rotation, and to each a weight >= 0, not all 0"
        )
    turned = Rotation.from_matrix(rotations)
    mean = turned.mean(weights=weights)
    for _ in range(_MOST_STEPS):
        gaps = (turned * mean.inv()).as_rotvec()  # (N, 3)
        pulls = weights / np.maximum(np.linalg.norm(gaps, axis=1), _NEAR_RAD)
        step = pulls @ gaps / pulls.sum()
        mean = Rotation.from_rotvec(step) * mean
        if np.linalg.norm(step) < _SAME_RAD:
            break
    matrix: Array = mean.as_matrix()
    return matrix


def check_rotation(matrix: Array) -> None:
    """Check that a matrix is a rotation.

    Raises:
        ValueError: it is not (3, 3), not finite, not orthonormal, or a reflection.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (3, 3):
        raise ValueError(f"a rotation of shape {matrix.shape}; it must be (3, 3)")
    if not np.isfinite(matrix).all():
        raise ValueError(f"a rotation holds {_first_infinite(matrix)}; all numbers must be finite")
    worst = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
    if worst > _TOLERANCE:
        raise ValueError(
            f"a rotation that is off by {worst:.2g} from orthonormal rows, {_TOLERANCE:g} is "
            "allowed; divide out the scale, or take the nearest rotation by SVD"
        )
    if np.linalg.det(matrix) < 0.0:
        raise ValueError(
            "a rotation with determinant -1 is a mirror; it must be +1: turn one axis round"
        )


def from_quaternion(quaternions: Array) -> Array:
    """Quaternions (..., 4), w first, of any length -> (..., 3, 3).

    Raises:
        ValueError: one has length 0, or is not finite.
    """
    quaternions = np.asarray(quaternions, dtype=np.float64)
    if quaternions.shape[-1:] != (4,) or not np.isfinite(quaternions).all():
        raise ValueError(
            f"quaternion {quaternions.tolist()!r:.80}; it must be four finite numbers w, x, y, z"
        )
    if (np.abs(quaternions).max(axis=-1, initial=0.0) < _TOLERANCE).any():
        raise ValueError("a quaternion of length 0 is not a rotation; (1, 0, 0, 0) turns nothing")
    flat = quaternions.reshape(-1, 4)
    matrices: Array = Rotation.from_quat(flat, scalar_first=True).as_matrix()
    return matrices.reshape(*quaternions.shape[:-1], 3, 3)


def to_quaternion(rotations: Array) -> Array:
    """Rotations (..., 3, 3) -> (..., 4), w first, of length 1; w >= 0, at 0 the next one is > 0."""
    flat = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    found: Array = Rotation.from_matrix(flat).as_quat(scalar_first=True)
    found[np.abs(found) < _NOTHING] = 0.0  # else rounding errors would choose a half turn's sign
    first = np.take_along_axis(found, (found != 0.0).argmax(axis=1)[:, None], axis=1)
    signed: Array = found * np.sign(first) + 0.0  # + 0.0 makes -0.0 plain
    return signed.reshape(*np.shape(rotations)[:-2], 4)


def _first_infinite(matrix: Array) -> float:
    return float(matrix[~np.isfinite(matrix)][0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pose:
    """Position and rotation of a part, with their uncertainty."""

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
    """The pose in an answer or a label.

    Raises:
        TaskError: it is not a pose; the message names the key and the value.
    """
    if not isinstance(answer, dict) or answer.keys() != set(_KEYS):
        found = sorted(map(str, answer)) if isinstance(answer, dict) else repr(answer)[:80]
        raise TaskError(f"{found} is not a pose; write an object with exactly {', '.join(_KEYS)}")
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
        TaskError: its rotation is invalid, or a number is not finite.
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
    raise TaskError(f"{key} = {values!r:.90} is not a list of {count} finite numbers; write one")


def _spread(answer: dict[str, Json], key: str) -> float:
    value = answer[key]
    if is_number(value) and value >= 0:
        return float(value)
    raise TaskError(
        f"{key} = {value!r:.60} is not a finite number >= 0; write 0.0 where it is exact"
    )
