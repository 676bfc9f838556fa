"""Rotations as (3, 3) matrices: angles between them, their mean, and quaternions.

Quaternions are written w first and with w >= 0, so that one rotation has one text. Refuses to
know what is turned.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.records import Array

_TOLERANCE = 1e-5
_SAME_RAD = 1e-10
_NEAR_RAD = 1e-7
_MOST_STEPS = 200
_NOTHING = 1e-14


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
    """The weighted geodesic median (3, 3) of rotations (N, 3, 3); a few wild ones do not move it.

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
    """Nothing when it is a rotation.

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
        raise ValueError("a quaternion of length 0 is no rotation; (1, 0, 0, 0) turns nothing")
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
