"""The pose task: one part, described by its part.toml, and everything that flywheel needs of it.

It is put together from the modules beside it, which a task of your own may import one by one. Here
are the answers, poses with their uncertainty from keypoints with theirs, and the drawing of answer
and label over a picture.

Shapes: B pictures, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import special

from flywheel.examples.pose.baselines import pose_baselines
from flywheel.examples.pose.labeling import agree, merge, pose_labeling
from flywheel.examples.pose.network import KeypointNet, loss, pose_inputs, pose_targets
from flywheel.examples.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.examples.pose.pnp import Solution, solve_batch
from flywheel.examples.pose.posing import (
    Camera,
    Pose,
    decode,
    encode,
    project,
    read_pose,
    write_pose,
)
from flywheel.examples.pose.scores import pose_scores
from flywheel.examples.pose.start import augment, start_examples
from flywheel.records import Answer, Array, Json, Sample
from flywheel.task import Example, Task

_GOOD_CM, _GOOD_DEG = 1.0, 5.0
_SPREAD = 1.3
"""measured on held-out start data: errors of one picture's keypoints go together, so that a pose
is off by 1.2 (cm) to 1.4 (degrees) times what they say one by one"""


_ENLARGED = 6
_ANSWER, _LABEL = (255, 140, 0), (0, 220, 90)
"""orange and green, RGB; the label is drawn thinner, for users who do not see red"""
_DARK_LINE = (10, 10, 10)
_BITS = 4
"""of a pixel that OpenCV draws to"""
_FAR_PX = 10_000.0
"""what is drawn beyond would overflow OpenCV's integers"""


NUM_START_TRAIN, NUM_START_TEST = 1_000, 200

_CELLS = ("north", "south", "west")
_DARK = 0.15


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


def draw_pose(part: Part, sample: Sample, answer: Json | None, label: Json | None) -> bytes:
    """PNG of the sample, six times as large, with the answer in orange and the label in green.

    Raises:
        PayloadError: the sample cannot be read, or has no camera.
        TaskError: the answer or the label is not a pose.
    """
    canvas = decode(sample).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    camera = Camera.of(sample.metadata, f"sample {sample.id[:12]}")
    shown = [(label, _LABEL, 1), (answer, _ANSWER, 2)]
    for value, colour, width in shown:
        if value is not None:
            _draw(canvas, part, read_pose(value), camera, colour, width)
    names = [("label", _LABEL)] * (label is not None) + [("answer", _ANSWER)] * (answer is not None)
    for line, (name, colour) in enumerate(names):
        place = (8, 20 + 18 * line)
        for shade, width in ((_DARK_LINE, 3), (colour, 1)):
            cv2.putText(
                canvas, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, shade, width, cv2.LINE_AA
            )
    return encode(canvas)


def _draw(
    canvas: Array, part: Part, pose: Pose, camera: Camera, colour: tuple[int, int, int], width: int
) -> None:
    """Sharp edges of the part, first dark and wide, so that they stand out on any ground."""
    ends = pose.transform(part.edges)  # (E, 2, 3)
    is_seen = (ends[:, :, 2] > 0.0).all(axis=1)
    pixels = project(ends[is_seen], camera)
    pixels = pixels[(np.abs(pixels) < _FAR_PX).all(axis=(1, 2))]
    # The middle of pixel u is the middle of its square of enlarged pixels.
    places = (pixels + 0.5) * _ENLARGED - 0.5
    lines = list(np.rint(places * 2**_BITS).astype(np.int32))
    for shade, thick in ((_DARK_LINE, width + 2), (colour, width)):
        cv2.polylines(canvas, lines, False, shade, thick, cv2.LINE_AA, _BITS)


def task() -> Task:
    """The pose task of the example part, a bracket."""
    return pose_task(EXAMPLE_PART)


def pose_task(
    part_path: Path, num_train: int = NUM_START_TRAIN, num_test: int = NUM_START_TEST
) -> Task:
    """The pose task of any rigid part.

    Args:
        part_path: its part.toml, with the mesh beside it.
        num_train: rendered pictures that the first model is trained on.
        num_test: rendered pictures that are held out.

    Raises:
        SettingsError: the part's description or mesh is invalid; see `load_part`.
    """
    part = load_part(part_path)
    return Task(
        model=lambda: KeypointNet(len(part.keypoints)),
        inputs=pose_inputs,
        targets=partial(pose_targets, part),
        loss=loss,
        answers=partial(pose_answers, part),
        scores=partial(pose_scores, part),
        labeling=pose_labeling(part),
        start_data=_start_data(part, num_train, num_test),
        baselines=pose_baselines(part),
        slices={
            **{f"cell {name}": _has("cell", name) for name in _CELLS},
            "by night": _has("lamp", "night"),
            "dark": _is_dark,
        },
        augment=augment,
        agree=partial(agree, part),
        merge=partial(merge, part),
        drawing=partial(draw_pose, part),
    )


def _start_data(part: Part, num_train: int, num_test: int) -> Callable[[], Iterator[Example]]:
    return lambda: start_examples(part, num_train, num_test)


def _has(key: str, value: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata.get(key) == value


def _is_dark(sample: Sample) -> bool:
    return float(decode(sample).mean()) / 255.0 < _DARK
