"""A scene to a picture, and what of the part can be seen in it.

The same part, scene and size give the same bytes: all chance is in the scene. It refuses to know
how scenes come about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.records import Array
from flywheel.tasks.pose.camera import Camera
from flywheel.tasks.pose.image import IMAGE_PIXELS
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.render.effects import blurred, develop
from flywheel.tasks.pose.render.raster import corners_of, cover, face_planes, rasterise
from flywheel.tasks.pose.render.scene import Scene
from flywheel.tasks.pose.render.shade import Looks, shade
from flywheel.tasks.pose.render.texture import noise_tile

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


def visibility(part: Part, scene: Scene, pixels: int = IMAGE_PIXELS) -> Visibility:
    """How much of the part, and which keypoints, a picture of that size shows."""
    drawn = _draw(part, scene, pixels)
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
