"""Simulates how annotators mark the keypoints of a part: nearly right, sometimes wrong, or not at all.

A pure function of the truth, the annotator's skill and a generator; the result is what Label
Studio's page submits for the configuration of the pose task.

Pixels are those of the sample's picture, whose first pixel's middle is (0, 0).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from flywheel.examples.annotators import Arrived, Hand
from flywheel.examples.pose.camera import IMAGE_PIXELS, PICTURE_SCALE, project
from flywheel.examples.pose.labeling import hidden_points
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, read_pose
from flywheel.records import Array, Json

_LEAST_SEEN = 3
"""with fewer visible keypoints an annotator cannot recognize the pose"""
_LEAST_MARKS = 4
_HIDDEN_MARKED = 0.5
"""share of the hidden keypoints that are marked all the same"""
_HIDDEN_FACTOR = 3.0
"""how much less exact those are"""
_SWAPPED = 0.5
"""share of the mistakes that are two swapped names; the others are a point dragged away"""
_DRAGGED_PX = (6.0, 20.0)


class Mark(NamedTuple):
    """Where an annotator put one keypoint."""

    u: float
    """px"""
    v: float
    """px"""
    is_visible: bool
    """False: marked as hidden, at the place where it must be"""


def marking_hand(arrived: Arrived, part: Part, skill_px: float) -> Hand:
    """A hand that marks the visible keypoints, or by mistake swaps two names or drags one away."""

    def draw(sample_id: str, errs: bool, rng: np.random.Generator) -> list[dict[str, Json]] | None:
        arrival = arrived(sample_id)
        if arrival is None:
            return None
        marks = placed_keypoints(
            part,
            arrival.truth,
            rng,
            skill_px=skill_px,
            error_rate=float(errs),
            seen=arrival.seen,
        )
        return submitted(marks)

    return draw


def placed_keypoints(
    part: Part,
    truth: Json,
    rng: np.random.Generator,
    *,
    skill_px: float,
    error_rate: float,
    seen: Collection[str] | None = None,
) -> dict[str, Mark]:
    """The keypoints that an annotator marks, by name; none when the picture is unusable.

    `skill_px` is one sigma of a visible mark, along u and along v; `error_rate` the chance of one
    mistake in the picture; `seen` the names of the keypoints that can be seen in it, by default
    those that the part itself does not hide.
    """
    pose = read_pose(truth)
    names = list(part.keypoints)
    pixels = project(pose.transform(np.array(list(part.keypoints.values()))), pose.camera)
    inside = np.all((pixels > -0.5) & (pixels < IMAGE_PIXELS - 0.5), axis=1)
    visible = inside & _visible(part, pose, seen)
    if visible.sum() < _LEAST_SEEN:
        return {}
    is_marked = visible | (inside & (rng.random(len(names)) < _HIDDEN_MARKED))
    spread = np.where(visible, 1.0, _HIDDEN_FACTOR)[:, None] * skill_px
    places = pixels + spread * rng.normal(size=pixels.shape)
    if rng.random() < error_rate:
        _err(places, np.flatnonzero(is_marked), rng)
    places = places.clip(-0.5, IMAGE_PIXELS - 0.5)
    if is_marked.sum() < _LEAST_MARKS:
        return {}
    return {
        names[index]: Mark(float(u), float(v), bool(visible[index]))
        for index, (u, v) in enumerate(places)
        if is_marked[index]
    }


def submitted(marks: dict[str, Mark]) -> list[dict[str, Json]]:
    """The result that Label Studio's page submits; `unusable` when nothing is marked."""
    if not marks:
        choice = {"from_name": "usable", "to_name": "image", "type": "choices"}
        return [{**choice, "id": "usable", "value": {"choices": ["unusable"]}}]
    side = IMAGE_PIXELS * PICTURE_SCALE
    shared = {"to_name": "image", "original_width": side, "original_height": side}
    regions: list[dict[str, Json]] = []
    for name, mark in marks.items():
        x, y = ((place + 0.5) / IMAGE_PIXELS * 100.0 for place in mark[:2])
        place = {"x": x, "y": y, "width": 0.8}
        region = {**shared, "id": f"mark-{name}", "image_rotation": 0}
        keypoint = {"from_name": "keypoint", "type": "keypointlabels"}
        regions.append({**region, **keypoint, "value": {**place, "keypointlabels": [name]}})
        choice = {"from_name": "visibility", "type": "choices"}
        chosen = "visible" if mark.is_visible else "hidden"
        regions.append({**region, **choice, "value": {**place, "choices": [chosen]}})
    return regions


def _visible(part: Part, pose: Pose, seen: Collection[str] | None) -> Array:
    """(K,) bool."""
    if seen is None:
        return ~hidden_points(part, pose)
    return np.array([name in seen for name in part.keypoints])


def _err(places: Array, marked: Array, rng: np.random.Generator) -> None:
    """One mistake in places (K, 2) of the marked keypoints (M,)."""
    one, other = rng.choice(marked, 2, replace=False)
    if rng.random() < _SWAPPED:
        places[[one, other]] = places[[other, one]]
        return
    way = rng.uniform(0.0, 2.0 * np.pi)
    places[one] += rng.uniform(*_DRAGGED_PX) * np.array([np.cos(way), np.sin(way)])
