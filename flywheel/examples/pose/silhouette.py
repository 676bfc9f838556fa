"""A pose from the outline of a part alone, without learning: the scripted baseline.

The outlines of the part from all sides are drawn once; the one that overlaps best with what
stands out from the floor gives the pose. It fails where light, material or clutter matter.

Shapes: M views of the part, N x N pixels of an aligned outline.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.camera import Camera
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose
from flywheel.records import Array

_NUM_VIEWS = 800
_DISTANCE = 5.0
"""of the drawn views, in diameters of the part"""
_FOCAL_PX, _CANVAS_PX = 300.0, 96
_ALIGNED_PX = 32
_SPAN = 3.2
"""side of an aligned outline, in roots of the part's area"""
_SHADOW = (0.25, 0.62)
"""share of the floor's brightness, in all colours alike, that counts as its shadow"""
_LEAST_PX, _MOST_SHARE = 25, 0.6
"""area of a part, in pixels and as a share of the picture, outside of which it is not a part"""


class _Outline(NamedTuple):
    """Centre, size and angle of a mask, from its moments."""

    centre: Array
    """(2,) pixels"""
    size: float
    """root of the area, pixels"""
    angle: float
    """of the long axis, radians, up to half a turn"""


class Silhouettes:
    """The outlines of one part from all sides."""

    def __init__(self, part: Part) -> None:
        self._distance = _DISTANCE * part.diameter_m
        self._rotations = _all_sides(_NUM_VIEWS)
        canvases = [self._drawn(part, rotation) for rotation in self._rotations]
        self._outlines = [_outline(canvas) for canvas in canvases]
        pairs = zip(canvases, self._outlines, strict=True)
        self._aligned = np.array([_align(mask, outline, outline.angle) for mask, outline in pairs])

    def pose(self, mask: Array, camera: Camera) -> Pose:
        """The pose whose outline overlaps best with a mask (H, W) of 0 and 1, not empty.

        Position: along the ray of the centre, as far as makes the areas equal.
        """
        seen = _outline(mask)
        shares, views = [], []
        for angle in (seen.angle, seen.angle + math.pi):
            overlap = np.minimum(self._aligned, _align(mask, seen, angle))
            union = np.maximum(self._aligned, _align(mask, seen, angle))
            share = overlap.sum(axis=(1, 2)) / union.sum(axis=(1, 2))
            views.append(int(np.argmax(share)))
            shares.append(share[views[-1]])
        best = int(np.argmax(shares))
        drawn = self._outlines[views[best]]
        turn = seen.angle + best * math.pi - drawn.angle
        depth = (
            self._distance
            * (drawn.size / _FOCAL_PX)
            / (seen.size / math.sqrt(camera.fx * camera.fy))
        )
        in_plane = Rotation.from_rotvec([0.0, 0.0, turn])
        middle = np.array([*(drawn.centre - (_CANVAS_PX - 1) / 2) / _FOCAL_PX, 0.0])
        ray = (seen.centre - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
        origin = np.array([*ray, 1.0]) * depth - in_plane.apply(middle) * self._distance
        rotation = _towards(ray) @ in_plane.as_matrix() @ self._rotations[views[best]]
        return Pose(rotation=rotation, position_m=origin, camera=camera)

    def _drawn(self, part: Part, rotation: Array) -> Array:
        places = part.vertices @ rotation.T + [0.0, 0.0, self._distance]
        pixels = places[:, :2] / places[:, 2:] * _FOCAL_PX + (_CANVAS_PX - 1) / 2
        canvas = np.zeros((_CANVAS_PX, _CANVAS_PX), dtype=np.uint8)
        for corners in np.rint(pixels).astype(np.int32)[part.faces]:
            cv2.fillConvexPoly(canvas, corners, 1)
        return canvas


def segment(pixels: Array) -> Array | None:
    """(H, W, 3) uint8 RGB -> (H, W) uint8, 1 on the largest thing that is not floor; None: there is none.

    The floor is what the border shows; by Otsu's threshold on the distance from its colour, and
    without what is only darker, its shadow.
    """
    image = cv2.GaussianBlur(pixels, (3, 3), 0).astype(np.float32) + 1.0
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    floor = np.median(border, axis=0)
    distance = np.abs(image - floor).max(axis=2).clip(0.0, 255.0).astype(np.uint8)
    threshold, _ = cv2.threshold(distance, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ratio = image / floor
    is_even = np.ptp(ratio, axis=2) < 0.12
    is_shadow = is_even & (ratio.mean(axis=2) > _SHADOW[0]) & (ratio.mean(axis=2) < _SHADOW[1])
    mask = ((distance > threshold) & ~is_shadow).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(outlines, key=cv2.contourArea, default=None)
    if largest is None or not _LEAST_PX <= cv2.contourArea(largest) <= _MOST_SHARE * mask.size:
        return None
    # Filled: holes are in shade, and darker than the floor or not by chance.
    found: Array = cv2.drawContours(np.zeros_like(mask), [largest], -1, 1, cv2.FILLED)
    return found


def _outline(mask: Array) -> _Outline:
    moments = cv2.moments(mask, binaryImage=True)
    area = max(moments["m00"], 1.0)
    angle = 0.5 * math.atan2(2.0 * moments["mu11"], moments["mu20"] - moments["mu02"])
    centre = np.array([moments["m10"], moments["m01"]]) / area
    return _Outline(centre, math.sqrt(area), angle)


def _align(mask: Array, outline: _Outline, angle: float) -> Array:
    """(N, N) float32: the outline about the middle, upright, at one size."""
    scale = _SPAN * outline.size / _ALIGNED_PX  # pixels of the mask for one of the result
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    shift = outline.centre - linear @ np.full(2, (_ALIGNED_PX - 1) / 2)
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    aligned: Array = cv2.warpAffine(
        mask.astype(np.float32),
        matrix,
        (_ALIGNED_PX, _ALIGNED_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return aligned


def _all_sides(count: int) -> Array:
    """(M, 3, 3) rotations that show a part from evenly spread sides (Fibonacci's sphere)."""
    index = np.arange(count) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * index / count), math.pi * (1.0 + math.sqrt(5.0)) * index
    sides: Array = Rotation.from_euler("zx", np.stack([turn, polar], axis=1)).as_matrix()
    return sides


def _towards(ray: Array) -> Array:
    """(3, 3), the smallest turn that brings the optical axis onto a ray (2,)."""
    axis = np.array([-ray[1], ray[0], 0.0])
    length = float(np.linalg.norm(axis))
    turned: Array = Rotation.from_rotvec(axis / max(length, 1e-12) * math.atan(length)).as_matrix()
    return turned
