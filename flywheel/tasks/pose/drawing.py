"""A picture with the answer and the label drawn over it as wire-frames, for reports and people.

Refuses to know who answered.
"""

from __future__ import annotations

import cv2
import numpy as np

from flywheel.records import Array, Json, Sample
from flywheel.tasks.pose.camera import Camera, project
from flywheel.tasks.pose.image import decode, encode
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.posing import Pose, read_pose

_ENLARGED = 6
_ANSWER, _LABEL = (255, 140, 0), (0, 220, 90)
"""orange and green, RGB; told apart by people who see no red too, as the label is thinner"""
_DARK = (10, 10, 10)
_BITS = 4
"""of a pixel that OpenCV draws to"""
_FAR_PX = 10_000.0
"""what is drawn beyond would overflow OpenCV's integers"""


def draw_pose(part: Part, sample: Sample, answer: Json | None, label: Json | None) -> bytes:
    """PNG of the sample, six times as large, with the answer in orange and the label in green.

    Raises:
        PayloadError: the sample cannot be read, or has no camera.
        TaskError: the answer or the label is no pose.
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
        for shade, width in ((_DARK, 3), (colour, 1)):
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
    for shade, thick in ((_DARK, width + 2), (colour, width)):
        cv2.polylines(canvas, lines, False, shade, thick, cv2.LINE_AA, _BITS)
