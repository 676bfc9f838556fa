"""The colour of each pixel, from the faces seen in its four samples, the light and the surfaces.

Every face seen in a pixel is shaded once, at the middle of its samples, and counts by their
number: edges are as smooth as with four full samples, for little more than the price of one.
It refuses to know lens and sensor. F faces, H x W pixels, S surfaces.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from flywheel.records import Array
from flywheel.tasks.pose.render.texture import albedo


@njit(cache=True)
def shade(
    seen: Array,
    camera: Array,
    faces: tuple[Array, Array],
    looks: tuple[Array, Array, Array],
    light: Array,
    shadow: Array,
) -> Array:
    """Linear light (3, H, W) float32.

    seen: (2 H, 2 W) int32, the face in each sample; F means the floor.
    camera: (4,) of the samples.
    faces: planes (F + 1, 3), those of `face_planes` and the floor's; surface of each, (F + 1,).
    looks: surfaces (S, 14), frames (S, 3, 4) from the camera's frame into each surface's own,
        and the tile of noise.
    light: (4, 3): towards the lamp, its colour, ambient colour, up; camera frame.
    shadow: (H, W) float32, share of the lamp's light that misses the floor.
    """
    height, width = seen.shape[0] // 2, seen.shape[1] // 2
    floor = len(faces[0]) - 1
    out = np.zeros((3, height, width), dtype=np.float32)
    for row in range(height):
        for column in range(width):
            for sample in range(4):
                face = seen[2 * row + sample // 2, 2 * column + sample % 2]
                count, u, v, is_first = 0, 0.0, 0.0, True
                for other in range(4):
                    y, x = 2 * row + other // 2, 2 * column + other % 2
                    if seen[y, x] == face:
                        is_first = is_first and other >= sample
                        count, u, v = count + 1, u + x, v + y
                if not is_first:
                    continue
                u, v = (u / count - camera[2]) / camera[0], (v / count - camera[3]) / camera[1]
                lit = 1.0 - shadow[row, column] if face == floor else 1.0
                red, green, blue = _light(face, u, v, faces, looks, light, lit)
                out[0, row, column] += 0.25 * count * red
                out[1, row, column] += 0.25 * count * green
                out[2, row, column] += 0.25 * count * blue
    return out


@njit(cache=True)
def _light(face, u, v, faces, looks, light, lit):  # type: ignore[no-untyped-def]
    return 0.0
