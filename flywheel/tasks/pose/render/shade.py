"""The colour of each pixel, from the faces seen in its four samples, the light and the surfaces.

Every face seen in a pixel is a fragment: it is shaded once, at the middle of its samples, and
counts by their number. Edges are as smooth as with four full samples, for little more than the
price of one. It refuses to know lens and sensor. F faces, H x W pixels, N fragments, S surfaces.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from flywheel.records import Array
from flywheel.tasks.pose.render.texture import albedo


class Looks(NamedTuple):
    """What everything that can be seen is made of; a tuple, as compiled code takes no dataclass."""

    planes: Array
    """(F + 1, 3), those of `raster.face_planes`, the last the floor's"""
    surface_of: Array
    """(F + 1,) int32, surface of each face"""
    surfaces: Array
    """(S, 14), rows of `Surface`"""
    frames: Array
    """(S, 3, 4), from the camera's frame into each surface's own"""
    light: Array
    """(4, 3): towards the lamp, its colour, ambient colour, up; camera frame"""


def shade(seen: Array, camera: Array, looks: Looks, shadow: Array, tile: Array) -> Array:
    """Linear light (3, H, W) float32.

    seen (2 H, 2 W) int32, the face in each sample, F for the floor; camera (4,) of the samples;
    shadow (H, W) float32, the share of the lamp's light that misses the floor; tile of noise.
    """
    pixels, counts, faces, places = _fragments(seen, camera, looks.planes)
    which = looks.surface_of[faces]
    colours = albedo(which, places, looks.frames, looks.surfaces, tile)
    lit = np.where(faces == len(looks.planes) - 1, 1.0 - shadow.ravel()[pixels], 1.0)
    _illuminate(colours, places, faces, lit, looks)
    image = np.zeros((3, shadow.size), dtype=np.float32)
    _gather(colours, pixels, counts, image)
    return image.reshape(3, *shadow.shape)


@njit(cache=True, error_model="numpy")
def _fragments(seen: Array, camera: Array, planes: Array) -> tuple[Array, Array, Array, Array]:
    """Pixel, number of samples, face, and place (N, 3) in the camera's frame of each fragment."""
    height, width = seen.shape[0] // 2, seen.shape[1] // 2
    pixels, counts = np.empty(seen.size, np.int32), np.empty(seen.size, np.int32)
    faces, places = np.empty(seen.size, np.int32), np.empty((seen.size, 3))
    number = 0
    for row in range(height):
        for column in range(width):
            for sample in range(4):
                face = seen[2 * row + (sample >> 1), 2 * column + (sample & 1)]
                count, x, y, is_first = 0, 0, 0, True
                for other in range(4):
                    if seen[2 * row + (other >> 1), 2 * column + (other & 1)] == face:
                        is_first = is_first and other >= sample
                        count, x, y = count + 1, x + (other & 1), y + (other >> 1)
                if not is_first:
                    continue
                u = (2 * column + x / count - camera[2]) / camera[0]
                v = (2 * row + y / count - camera[3]) / camera[1]
                near = planes[face, 0] * u + planes[face, 1] * v + planes[face, 2]
                # Above the floor's horizon there is only what is far away.
                depth = 1.0 / near if near > 1e-3 else 1e3
                pixels[number], counts[number], faces[number] = row * width + column, count, face
                places[number, 0], places[number, 1], places[number, 2] = (
                    u * depth,
                    v * depth,
                    depth,
                )
                number += 1
                if count == 4:
                    break
    return pixels[:number], counts[:number], faces[:number], places[:number]


@njit(cache=True, error_model="numpy")
def _illuminate(colours: Array, places: Array, faces: Array, lit: Array, looks: Looks) -> None:
    """Turn the colours (N, 3) of surfaces into light: diffuse, ambient from above, highlight.

    places (N, 3) of the faces (N,); lit (N,), 0..1, share of the lamp's light that comes there.
    """
    planes, surfaces, light = looks.planes, looks.surfaces, looks.light
    for one in range(len(colours)):
        face, which = faces[one], looks.surface_of[faces[one]]
        px, py, pz = planes[face, 0], planes[face, 1], planes[face, 2]
        scale = -1.0 / math.sqrt(px * px + py * py + pz * pz)
        nx, ny, nz = px * scale, py * scale, pz * scale
        cosine = nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2]
        diffuse = max(cosine, 0.0) * lit[one]
        sky = 0.65 + 0.35 * (nx * light[3, 0] + ny * light[3, 1] + nz * light[3, 2])
        shine = 0.0
        if surfaces[which, 10] > 0.0 and cosine > 0.0:
            x, y, z = places[one, 0], places[one, 1], places[one, 2]
            back = 1.0 / math.sqrt(x * x + y * y + z * z)
            hx, hy, hz = light[0, 0] - x * back, light[0, 1] - y * back, light[0, 2] - z * back
            half = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
            shine = surfaces[which, 10] * lit[one] * _power(half, surfaces[which, 11])
        for channel in range(3):
            glow = sky * light[2, channel] + diffuse * light[1, channel]
            colours[one, channel] = colours[one, channel] * glow + shine * light[1, channel]


@njit(cache=True, error_model="numpy")
def _power(cosine: float, exponent: float) -> float:
    """About cosine ** exponent, as t / (s - s t + t); 0 for a cosine below 0.

    Source: Schlick, "A fast alternative to Phong's specular model", Graphics Gems IV, 1994.
    """
    return max(cosine, 0.0) / (exponent - exponent * cosine + cosine)


@njit(cache=True, error_model="numpy")
def _gather(colours: Array, pixels: Array, counts: Array, image: Array) -> None:
    """Add the fragments (N, 3) to their pixels in `image` (3, H W), each by its samples."""
    for one in range(len(pixels)):
        weight = 0.25 * counts[one]
        for channel in range(3):
            image[channel, pixels[one]] += np.float32(weight * colours[one, channel])
