"""Which keypoints of a part are hidden behind the part itself.

A pre-annotation marks them, so that people need not, and so that their places count for less.
Refuses to know what else stands in the way.

Shapes: K keypoints, F faces.
"""

from __future__ import annotations

import numpy as np

from flywheel.records import Array
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.posing import Pose

_CLEAR = 0.02
"""of the diameter: a face that meets the line of sight closer to the keypoint is its own"""


def hidden_points(part: Part, pose: Pose) -> Array:
    """(K,) whether a face crosses the straight line from the camera to each keypoint.

    Formula: the ray meets the triangle a, a + e, a + f at o + s d with barycentric u, v >= 0 and
    u + v <= 1.
    Source: Moeller and Trumbore, Fast, minimum storage ray-triangle intersection (1997).
    """
    eye = -pose.rotation.T @ pose.position_m  # the camera, in the part's frame
    points = np.array(list(part.keypoints.values()))
    sight = points - eye  # (K, 3)
    corners = part.vertices[part.faces]  # (F, 3, 3)
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(sight[:, None], other)  # (K, F, 3)
    volume = (across * one).sum(axis=2)
    volume[volume == 0.0] = np.nan  # seen edge on, a face hides nothing
    from_corner = eye - corners[:, 0]
    turned = np.cross(from_corner, one)
    u = (across * from_corner).sum(axis=2) / volume
    v = sight @ turned.T / volume
    way = (turned * other).sum(axis=1) / volume  # 1 at the keypoint
    before = 1.0 - _CLEAR * part.diameter_m / np.linalg.norm(sight, axis=1)
    crossed = (u >= 0) & (v >= 0) & (u + v <= 1) & (way > 0) & (way < before[:, None])
    found: Array = crossed.any(axis=1)
    return found
