"""Simpler ways to a pose, which the network has to beat: an outline, and two regressions.

Each answers every picture, with the mean of the training poses where it sees nothing. They give
no standard deviations.

Shapes: N training samples, B samples to answer, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from flywheel.examples.pose.agreement import nearest_turn
from flywheel.examples.pose.camera import IMAGE_PIXELS, Camera, decode
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, mean_rotation, read_pose, write_pose
from flywheel.examples.pose.silhouette import Silhouettes, segment
from flywheel.records import Array, Json, Sample
from flywheel.task import Baseline, Predictor

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
