"""Renders a scene to a picture, and measures what of the part can be seen in it.

The same part, scene and size give the same bytes: all chance is in the scene. Every face seen in a
pixel is a fragment: it is shaded once, at the middle of its samples, and weighted by their number.
Edges are as smooth as with four full samples, for little more than the cost of one.

Shapes: F faces, H x W pixels, N fragments, S surfaces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import IMAGE_PIXELS, Camera
from flywheel.examples.pose.render.effects import blurred, develop
from flywheel.examples.pose.render.raster import corners_of, cover, face_planes, rasterise
from flywheel.examples.pose.render.scene import Scene
from flywheel.examples.pose.render.texture import albedo, noise_tile
from flywheel.records import Array


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
    for index in range(len(colours)):
        face, which = faces[index], looks.surface_of[faces[index]]
        px, py, pz = planes[face, 0], planes[face, 1], planes[face, 2]
        scale = -1.0 / math.sqrt(px * px + py * py + pz * pz)
        nx, ny, nz = px * scale, py * scale, pz * scale
        cosine = nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2]
        diffuse = max(cosine, 0.0) * lit[index]
        sky = 0.65 + 0.35 * (nx * light[3, 0] + ny * light[3, 1] + nz * light[3, 2])
        shine = 0.0
        if surfaces[which, 10] > 0.0 and cosine > 0.0:
            x, y, z = places[index, 0], places[index, 1], places[index, 2]
            back = 1.0 / math.sqrt(x * x + y * y + z * z)
            hx, hy, hz = light[0, 0] - x * back, light[0, 1] - y * back, light[0, 2] - z * back
            half = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
            shine = surfaces[which, 10] * lit[index] * _power(half, surfaces[which, 11])
        for channel in range(3):
            glow = sky * light[2, channel] + diffuse * light[1, channel]
            colours[index, channel] = colours[index, channel] * glow + shine * light[1, channel]


@njit(cache=True, error_model="numpy")
def _power(cosine: float, exponent: float) -> float:
    """About cosine ** exponent, as t / (s - s t + t); 0 for a cosine below 0.

    Source: Schlick, "A fast alternative to Phong's specular model", Graphics Gems IV, 1994.
    """
    return max(cosine, 0.0) / (exponent - exponent * cosine + cosine)


@njit(cache=True, error_model="numpy")
def _gather(colours: Array, pixels: Array, counts: Array, image: Array) -> None:
    """Add the fragments (N, 3) to their pixels in `image` (3, H W), each by its samples."""
    for index in range(len(pixels)):
        weight = 0.25 * counts[index]
        for channel in range(3):
            image[channel, pixels[index]] += np.float32(weight * colours[index, channel])


_HIDING_M = 0.0015
"""a keypoint is hidden by what is nearer than it by more than this"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Visibility:
    """What of the part is seen in a picture."""

    part: float
    """0..1, share of the part's pixels within the picture that nothing hides; 0 when it is outside"""
    keypoints: Array
    """(K,) bool, in the part's order: inside the picture and not hidden by anything"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Drawn:
    """A scene's geometry, drawn into 2 x 2 samples a pixel."""

    points: Array
    """(V, 3), all vertices in the camera's frame: the part's, then the others'"""
    faces: Array
    """(F, 3), the part's first"""
    planes: Array
    """(F, 3)"""
    camera: Array
    """(4,), of the samples"""
    nearness: Array
    """(2 H, 2 W) float32, 1 / z"""
    seen: Array
    """(2 H, 2 W) int32, face; F where there is none"""
    num_alone: int
    """samples that the part takes where nothing else is drawn"""


def render(part: Part, scene: Scene, pixels: int = IMAGE_PIXELS) -> Array:
    """The picture, (pixels, pixels, 3) uint8; other sizes show the same view, finer or coarser."""
    drawn = _draw(part, scene, pixels)
    shadow = _shadow(drawn, scene, pixels)
    looks = _looks(drawn, scene, len(part.faces))
    image = shade(drawn.seen, drawn.camera, looks, shadow, noise_tile())
    return develop(image, scene.effects)


def visibility(part: Part, scene: Scene) -> Visibility:
    """How much of the part, and which keypoints, a picture shows."""
    drawn = _draw(part, scene, IMAGE_PIXELS)
    left = int(np.count_nonzero(drawn.seen < len(part.faces)))
    share = left / drawn.num_alone if drawn.num_alone else 0.0
    points = scene.pose.transform(np.array(list(part.keypoints.values())))
    return Visibility(part=share, keypoints=_unhidden(points, drawn))


def _draw(part: Part, scene: Scene, pixels: int) -> _Drawn:
    clutter, own = scene.clutter, part.faces
    others = clutter.vertices @ scene.view.rotation.T + scene.view.position_m
    points = np.concatenate([scene.pose.transform(part.vertices), others])
    faces = np.concatenate([own, clutter.faces + len(part.vertices)])
    camera = _samples_camera(scene.pose.camera, 2.0 * pixels / IMAGE_PIXELS)
    planes = face_planes(points, faces)
    corners = corners_of(points, faces, camera)
    nearness = np.zeros((2 * pixels, 2 * pixels), dtype=np.float32)
    seen = np.full((2 * pixels, 2 * pixels), len(faces), dtype=np.int32)
    rasterise(corners[: len(own)], planes[: len(own)], camera, nearness, seen, 0)
    num_alone = int(np.count_nonzero(nearness))
    rasterise(corners[len(own) :], planes[len(own) :], camera, nearness, seen, len(own))
    return _Drawn(
        points=points,
        faces=faces,
        planes=planes,
        camera=camera,
        nearness=nearness,
        seen=seen,
        num_alone=num_alone,
    )


def _samples_camera(camera: Camera, scale: float) -> Array:
    """(4,), fx, fy, cx, cy of an image `scale` times as fine; pixel centres stay between samples."""
    shift = (scale - 1.0) / 2.0
    values = (camera.fx, camera.fy, camera.cx, camera.cy)
    return np.array(values) * scale + (0.0, 0.0, shift, shift)


def _on_image(points: Array, camera: Array) -> Array:
    """(..., 3) -> (..., 2); without a check, as faces that come too near are left out anyway."""
    depth = np.maximum(points[..., 2:], 1e-6)
    return np.asarray(points[..., :2] / depth * camera[:2] + camera[2:])


def _floor(scene: Scene) -> tuple[Array, float]:
    """The plane n . p = d of the bin's floor in the camera's frame."""
    normal = scene.view.rotation[:, 2]
    return normal, float(normal @ scene.view.position_m)


def _looks(drawn: _Drawn, scene: Scene, num_own: int) -> Looks:
    """Surface 0 is the floor's, 1 the part's, the rest that of the clutter."""
    num_faces = len(drawn.faces)
    normal, offset = _floor(scene)
    planes = np.empty((num_faces + 1, 3))
    planes[:num_faces], planes[num_faces] = drawn.planes, normal / offset
    surface_of = np.empty(num_faces + 1, dtype=np.int32)
    surface_of[:num_own], surface_of[num_faces] = 1, 0
    surface_of[num_own:num_faces] = scene.clutter.surface_of + 2
    surfaces = np.array([s.row for s in (scene.floor, scene.part, *scene.clutter.surfaces)])
    return Looks(
        planes=planes,
        surface_of=surface_of,
        surfaces=surfaces,
        frames=_frames(scene, len(surfaces)),
        light=_light(scene),
    )


def _light(scene: Scene) -> Array:
    """(4, 3): towards the lamp, its colour, ambient colour, up."""
    light, view = scene.light, scene.view
    return np.array(
        [view.rotation @ light.direction, light.colour, light.ambient, view.rotation[:, 2]]
    )


def _frames(scene: Scene, num_surfaces: int) -> Array:
    """(S, 3, 4): camera frame -> the part's frame for the part, the bin's for all else."""
    frames = np.empty((num_surfaces, 3, 4))
    for place, turn, shift in (
        (slice(None), scene.view.rotation, scene.view.position_m),
        (1, scene.pose.rotation, scene.pose.position_m),
    ):
        frames[place, :, :3] = turn.T
        frames[place, :, 3] = -turn.T @ shift
    return frames


def _shadow(drawn: _Drawn, scene: Scene, pixels: int) -> Array:
    """(H, W) float32: the shadow of all things on the floor, along the light."""
    mask = np.zeros((1, pixels, pixels), dtype=np.float32)
    scale = pixels / IMAGE_PIXELS
    normal, offset = _floor(scene)
    towards = scene.view.rotation @ scene.light.direction
    heights = drawn.points @ normal - offset
    fallen = drawn.points - (heights / float(normal @ towards))[:, None] * towards
    camera = _samples_camera(scene.pose.camera, scale)
    cover(corners_of(fallen, drawn.faces, camera), mask[0])
    return np.asarray(
        blurred(mask, scene.light.softness_px * scale)[0] * np.float32(scene.light.shadow)
    )


def _unhidden(points: Array, drawn: _Drawn) -> Array:
    """(K,) bool; a neighbouring sample will do, as keypoints lie on edges."""
    side = len(drawn.seen)
    columns, rows = np.rint(_on_image(points, drawn.camera)).astype(np.int64).T
    inside = (points[:, 2] > 0) & (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    found = np.zeros(len(points), dtype=bool)
    limits = 1.0 / np.maximum(points[:, 2] - _HIDING_M, 1e-6)
    for point in np.flatnonzero(inside):
        row, column = rows[point], columns[point]
        around = drawn.nearness[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        found[point] = bool(around.min() <= limits[point])
    return found
