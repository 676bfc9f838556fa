"""Simpler ways to a pose, which the network has to beat: an outline, and two regressions.

Each answers every picture, with the mean of the training poses where it sees nothing. They give
no standard deviations. The outlines of the part from all sides are drawn once; the one that overlaps
best with what stands out from the floor gives the pose.

Shapes: N training samples, B samples to answer, D features, M views of the part, N x N pixels of an
aligned outline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from flywheel.examples.pose.labeling import nearest_turn
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import (
    IMAGE_PIXELS,
    Camera,
    Pose,
    decode,
    mean_rotation,
    read_pose,
    write_pose,
)
from flywheel.records import Array, Json, Sample
from flywheel.task import Baseline, Predictor

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


_NUM_NEIGHBOURS = 3
_RIDGE_PENALTY = 3.0
_SHRUNK_PIXELS = 16
_GRADIENTS = cv2.HOGDescriptor((IMAGE_PIXELS, IMAGE_PIXELS), (16, 16), (8, 8), (8, 8), 9)

_Guess = Callable[[Sequence[Sample]], tuple[Array, Array]]
"""samples -> rotations (B, 3, 3), and places (B, 3) as `_place` writes them"""


def pose_baselines(part: Part) -> Mapping[str, Baseline]:
    """The baselines of the pose task, by name."""
    return {
        "silhouette": Baseline(
            kind="scripted", fit=lambda samples, answers: _fit_silhouette(part, samples, answers)
        ),
        "nearest neighbours": Baseline(
            kind="simple ML", fit=lambda samples, answers: _fit_nearest(part, samples, answers)
        ),
        "ridge on gradients": Baseline(
            kind="simple ML", fit=lambda samples, answers: _fit_ridge(part, samples, answers)
        ),
    }


def _fit_silhouette(part: Part, _: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    """Silhouettes need no training; the answers' mean is for pictures where no outline is found."""
    silhouettes, (rotations, places) = Silhouettes(part), _split(answers)
    rotation, place = mean_rotation(rotations, np.ones(len(rotations))), places.mean(axis=0)

    def answer(sample: Sample) -> Json:
        mask, camera = segment(decode(sample)), _camera(sample)
        pose = _pose(rotation, place, camera) if mask is None else silhouettes.pose(mask, camera)
        return write_pose(pose)

    return lambda samples: [answer(sample) for sample in samples]


def _fit_nearest(part: Part, samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    """The mean pose of the three training pictures that look most alike, shrunk to 16 pixels."""
    rotations, places = _split(answers)
    index = NearestNeighbors(n_neighbors=min(_NUM_NEIGHBOURS, len(samples)))
    index.fit(_features(samples, _shrunk))

    def guess(samples: Sequence[Sample]) -> tuple[Array, Array]:
        rows = index.kneighbors(_features(samples, _shrunk), return_distance=False)
        turns = [_mean_turn(part, rotations[row]) for row in rows]
        return np.array(turns), places[rows].mean(axis=1)

    return _predictor(guess)


def _fit_ridge(part: Part, samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    """Linear in histograms of gradients; a rotation is its first two columns, orthogonalised.

    Source: Zhou et al., On the continuity of rotation representations (arXiv 1812.07035).
    """
    rotations, places = _split(answers)
    turns = np.array([nearest_turn(part, turn, rotations[0]) for turn in rotations])
    columns = turns[:, :, :2].reshape(-1, 6)
    ridge = Ridge(alpha=_RIDGE_PENALTY)
    ridge.fit(_features(samples, _gradients), np.concatenate([columns, places], axis=1))

    def guess(samples: Sequence[Sample]) -> tuple[Array, Array]:
        found = ridge.predict(_features(samples, _gradients))
        return _orthogonal(found[:, :6].reshape(-1, 3, 2)), found[:, 6:]

    return _predictor(guess)


def _predictor(guess: _Guess) -> Predictor:
    def predict(samples: Sequence[Sample]) -> list[Json]:
        if not samples:
            return []
        pairs = zip(samples, *guess(samples), strict=True)
        return [write_pose(_pose(turn, place, _camera(sample))) for sample, turn, place in pairs]

    return predict


def _split(answers: Sequence[Json]) -> tuple[Array, Array]:
    """Rotations (N, 3, 3) and places (N, 3)."""
    poses = [read_pose(answer) for answer in answers]
    return np.array([pose.rotation for pose in poses]), np.array([_place(pose) for pose in poses])


def _place(pose: Pose) -> Array:
    """(3,): u, v and log(z / focal length), which a picture shows whatever camera took it."""
    x, y, z = pose.position_m
    camera = pose.camera
    u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    return np.array([u, v, math.log(z / math.sqrt(camera.fx * camera.fy))])


def _pose(rotation: Array, place: Array, camera: Camera) -> Pose:
    z = math.exp(place[2]) * math.sqrt(camera.fx * camera.fy)
    x, y = (place[0] - camera.cx) / camera.fx * z, (place[1] - camera.cy) / camera.fy * z
    return Pose(rotation=rotation, position_m=np.array([x, y, z]), camera=camera)


def _camera(sample: Sample) -> Camera:
    return Camera.of(sample.metadata, f"sample {sample.id[:12]}")


def _mean_turn(part: Part, rotations: Array) -> Array:
    """(3, 3), the mean of rotations, each in the symmetric position nearest to the first."""
    turns = np.array([nearest_turn(part, turn, rotations[0]) for turn in rotations])
    return mean_rotation(turns, np.ones(len(turns)))


def _orthogonal(columns: Array) -> Array:
    """(B, 3, 2) -> (B, 3, 3), by Gram and Schmidt."""
    first = columns[:, :, 0] / np.linalg.norm(columns[:, :, 0], axis=1, keepdims=True)
    rest = columns[:, :, 1] - first * (first * columns[:, :, 1]).sum(axis=1, keepdims=True)
    second = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=2)


def _features(samples: Sequence[Sample], look: Callable[[Array], Array]) -> Array:
    """(N, D)."""
    return np.array([look(decode(sample)) for sample in samples])


def _shrunk(pixels: Array) -> Array:
    size = (_SHRUNK_PIXELS, _SHRUNK_PIXELS)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    found: Array = (small - small.mean(axis=(0, 1))).ravel() / 255.0
    return found


def _gradients(pixels: Array) -> Array:
    found: Array = np.ravel(_GRADIENTS.compute(pixels))
    return found
