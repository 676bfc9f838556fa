"""Samples and poses as the numbers that the network is trained on.

Refuses to know the network.

Shapes: B samples of N x N pixels, S symmetries, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from flywheel.errors import TaskError
from flywheel.records import Array, Json, Sample
from flywheel.tasks.pose.camera import Camera, rays
from flywheel.tasks.pose.image import IMAGE_PIXELS, decode
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.posing import read_pose

_ROWS, _COLUMNS = np.mgrid[:IMAGE_PIXELS, :IMAGE_PIXELS]
_PIXELS = np.stack([_COLUMNS, _ROWS], axis=-1)  # (N, N, 2) of u, v


def pose_inputs(samples: Sequence[Sample]) -> torch.Tensor:
    """(B, 5, N, N) float32: RGB of 0..1, then x / z and y / z of each pixel's ray.

    Raises:
        PayloadError: a picture cannot be read, or has no camera.
    """
    inputs = np.empty((len(samples), 5, IMAGE_PIXELS, IMAGE_PIXELS), dtype=np.float32)
    for row, sample in zip(inputs, samples, strict=True):
        camera = Camera.of(sample.metadata, f"sample {sample.id[:12]}")
        row[:3] = decode(sample).transpose(2, 0, 1) / np.float32(255.0)
        row[3:] = rays(_PIXELS, camera).transpose(2, 0, 1)
    return torch.from_numpy(inputs)


def pose_targets(part: Part, answers: Sequence[Json]) -> torch.Tensor:
    """(B, S, K, 2) float32: rays of the keypoints, in each position that looks the same.

    Raises:
        TaskError: an answer is no pose, or puts a keypoint behind the camera.
    """
    keypoints = np.array(list(part.keypoints.values()))
    places = keypoints @ np.swapaxes(part.symmetries, 1, 2)  # (S, K, 3), part frame
    found = np.empty((len(answers), *places.shape[:2], 2), dtype=np.float32)
    for row, answer in zip(found, answers, strict=True):
        row[:] = _seen(read_pose(answer).transform(places))
    return torch.from_numpy(found)


def _seen(points: Array) -> Array:
    nearest = float(points[..., 2].min())
    if nearest <= 0.0:
        raise TaskError(
            f"a pose puts a keypoint at z = {nearest:.3g} m, behind the camera, where nothing is "
            "seen; position_m is in the camera's frame, z forward and above 0"
        )
    seen: Array = points[..., :2] / points[..., 2:]
    return seen
