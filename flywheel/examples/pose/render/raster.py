"""Triangles to pixels: which face is seen in each sample, and how far away it is.

Compiled by numba, so it needs no display and no OpenGL. F faces, V vertices, an image of H x W
samples.

On a face's plane 1 / z is linear over the image, exactly: with n . p = d it is (n / d) . ray, for
the ray ((u - cx) / fx, (v - cy) / fy, 1). So a face is three numbers, n / d, and depth is compared
as 1 / z; see Pineda, "A parallel algorithm for polygon rasterization", SIGGRAPH 1988, and
Blinn, "Hyperbolic interpolation", 1992.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from flywheel.records import Array

_NEAREST_M = 0.01
# Samples on an edge that two faces share belong to one of them at least, however it is rounded.
_EDGE = 1e-9


@njit(cache=True, error_model="numpy")
def face_planes(points: Array, faces: Array) -> Array:
    """Points (V, 3) of the camera frame, faces (F, 3) -> (F, 3), n / d of each face.

    Zeros for a face that is not seen: turned away, edge on, or with a corner nearer than 1 cm.
    A face is seen from the side where its corners run counter-clockwise.
    """
    planes = np.zeros((len(faces), 3))
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        if min(points[i, 2], points[j, 2], points[k, 2]) < _NEAREST_M:
            continue
        ax, ay, az = (
            points[j, 0] - points[i, 0],
            points[j, 1] - points[i, 1],
            points[j, 2] - points[i, 2],
        )
        bx, by, bz = (
            points[k, 0] - points[i, 0],
            points[k, 1] - points[i, 1],
            points[k, 2] - points[i, 2],
        )
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        offset = nx * points[i, 0] + ny * points[i, 1] + nz * points[i, 2]
        if offset < -1e-15:  # the camera, at the origin, is on the outer side
            planes[face, 0], planes[face, 1], planes[face, 2] = (
                nx / offset,
                ny / offset,
                nz / offset,
            )
    return planes


@njit(cache=True, error_model="numpy")
def rasterise(
    corners: Array, planes: Array, camera: Array, nearness: Array, seen: Array, first: int
) -> None:
    """Draw faces into `nearness` and `seen`, both (H, W).

    Corners (F, 3, 2) in samples; planes (F, 3) of `face_planes`; camera (4,) of the samples.
    `nearness` float32 holds 1 / z in 1/m and `seen` int32 the face, numbered from `first`. A
    sample changes where a face is nearer than what it holds.
    """
    height, width = seen.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    for face in range(len(corners)):
        step, slope = planes[face, 0] / fx, planes[face, 1] / fy
        start = planes[face, 2] - step * cx - slope * cy
        if start == 0.0 and step == 0.0 and slope == 0.0:
            continue
        corner = corners[face]
        low = max(math.ceil(min(corner[0, 1], corner[1, 1], corner[2, 1]) - _EDGE), 0)
        high = min(math.floor(max(corner[0, 1], corner[1, 1], corner[2, 1]) + _EDGE), height - 1)
        for row in range(low, high + 1):
            left, right = _span(corner, float(row), width)
            base = start + slope * row
            for column in range(left, right + 1):
                near = np.float32(base + step * column)
                if near > nearness[row, column]:
                    nearness[row, column] = near
                    seen[row, column] = first + face


@njit(cache=True, error_model="numpy")
def corners_of(points: Array, faces: Array, camera: Array) -> Array:
    """Points (V, 3), faces (F, 3) -> where the corners are seen, (F, 3, 2), in samples of a camera (4,).

    Without a check of depth: faces that come too near are left out by `face_planes`.
    """
    corners = np.empty((len(faces), 3, 2))
    for face in range(len(faces)):
        for corner in range(3):
            point = faces[face, corner]
            near = 1.0 / max(points[point, 2], 1e-6)
            corners[face, corner, 0] = points[point, 0] * near * camera[0] + camera[2]
            corners[face, corner, 1] = points[point, 1] * near * camera[1] + camera[3]
    return corners


@njit(cache=True, error_model="numpy")
def cover(corners: Array, mask: Array) -> None:
    """Set `mask` (H, W) float32 to 1 where a triangle of corners (F, 3, 2) lies, all in pixels.

    Only triangles that show their outer side: those of a closed body cover all that it does.
    """
    height, width = mask.shape
    for face in range(len(corners)):
        corner = corners[face]
        au, av = corner[1, 0] - corner[0, 0], corner[1, 1] - corner[0, 1]
        bu, bv = corner[2, 0] - corner[0, 0], corner[2, 1] - corner[0, 1]
        if au * bv - av * bu >= 0.0:  # clockwise, as v points down
            continue
        low = max(math.ceil(min(corner[0, 1], corner[1, 1], corner[2, 1]) - _EDGE), 0)
        high = min(math.floor(max(corner[0, 1], corner[1, 1], corner[2, 1]) + _EDGE), height - 1)
        for row in range(low, high + 1):
            left, right = _span(corner, float(row), width)
            mask[row, left : right + 1] = 1.0


@njit(cache=True, error_model="numpy")
def _span(corner: Array, row: float, width: int) -> tuple[int, int]:
    """First and last column of a triangle (3, 2) in a row; the last is before the first if none."""
    least, most = 1e9, -1e9
    for index in range(3):
        other = index + 1 if index < 2 else 0
        top, bottom = corner[index, 1], corner[other, 1]
        if min(top, bottom) - _EDGE > row or max(top, bottom) + _EDGE < row:
            continue
        if abs(bottom - top) < 1e-12:
            least = min(least, corner[index, 0], corner[other, 0])
            most = max(most, corner[index, 0], corner[other, 0])
            continue
        share = min(max((row - top) / (bottom - top), 0.0), 1.0)
        column = corner[index, 0] + share * (corner[other, 0] - corner[index, 0])
        least, most = min(least, column), max(most, column)
    left = max(least - _EDGE, 0.0)
    right = min(most + _EDGE, width - 1.0)
    return math.ceil(left), math.floor(right)
