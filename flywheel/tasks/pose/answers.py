"""From keypoints with doubts to poses with doubts: what the network's output says.

Refuses to know how the keypoints were found.

Shapes: B pictures, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import special

from flywheel.records import Answer, Array
from flywheel.tasks.pose.camera import Camera
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.pnp import Solution, solve_batch
from flywheel.tasks.pose.posing import Pose, write_pose

_GOOD_CM, _GOOD_DEG = 1.0, 5.0
_SPREAD = 1.3
"""measured on held-out start data: errors of one picture's keypoints go together, so that a pose
is off by 1.2 (cm) to 1.4 (degrees) times what they say one by one"""


def pose_answers(part: Part, output: Mapping[str, torch.Tensor]) -> list[Answer]:
    """One pose for each picture; see `network.KeypointNet.forward` for the output.

    The confidence is the chance that the pose is within 1 cm and 5 degrees, if its errors are
    Gaussian with the covariance of the fit; position and rotation are taken as independent.
    """
    arrays = {name: value.detach().cpu().double().numpy() for name, value in output.items()}
    points = np.array(list(part.keypoints.values()))
    found = solve_batch(points, arrays["keypoints"], np.exp(arrays["log_std"]))
    covariance = found.covariance * _SPREAD**2
    turn, shift = (
        np.linalg.eigvalsh(covariance[:, k : k + 3, k : k + 3]).clip(min=0.0) for k in (0, 3)
    )
    confidences = np.where(
        found.in_front,
        _chance(turn, np.radians(_GOOD_DEG)) * _chance(shift, _GOOD_CM / 100.0),
        0.0,
    )
    embeddings = arrays["embedding"].astype(np.float32)
    return [
        Answer(
            value=write_pose(_pose(found, index, arrays["camera"][index], (turn, shift))),
            confidence=float(confidences[index]),
            embedding=embeddings[index],
        )
        for index in range(len(embeddings))
    ]


def _pose(found: Solution, index: int, camera: Array, variances: tuple[Array, Array]) -> Pose:
    turn, shift = (float(np.sqrt(values[index].sum())) for values in variances)
    fx, fy, cx, cy = (round(float(value), 3) for value in camera)  # float32 knows no more
    return Pose(
        rotation=found.rotation[index],
        position_m=found.position_m[index],
        camera=Camera(fx=fx, fy=fy, cx=cx, cy=cy),
        std_cm=100.0 * shift,
        std_deg=float(np.degrees(turn)),
    )


def _chance(variances: Array, most: float) -> Array:
    """(B,) chance that a Gaussian vector is shorter than `most`, from its principal variances (B, 3).

    Formula: the squared length is taken to be gamma distributed with its true mean, sum v, and
    variance, 2 sum v^2; exact for equal variances.
    Source: Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    mean = np.maximum(variances.sum(axis=1), 1e-30)
    spread = 2.0 * np.maximum((variances**2).sum(axis=1), 1e-60)
    chance: Array = special.gammainc(mean**2 / spread, most**2 * mean / spread)
    return chance
