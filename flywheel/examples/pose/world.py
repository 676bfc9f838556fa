"""The demo of the robot cell: a robot that empties bins of one part, and simulated annotators.

Where *everything moved* production is wider than the start data from the first night and drifts
further, more and more slowly. In the *long tail* most pictures are as in the start data; the others
come from a new cell, a lamp at night, or bins of a new colour. Annotators mark the keypoints of the
part nearly right, sometimes wrong, or not at all; what they submit is what Label Studio's page does.

Pixels are those of the sample's picture, whose first pixel's middle is (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.examples.annotators import Arrived, Hand
from flywheel.examples.demos import Demo, Revisit, three_annotators
from flywheel.examples.pose.labeling import PICTURE_SCALE, hidden_points
from flywheel.examples.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.examples.pose.posing import (
    IMAGE_PIXELS,
    Pose,
    encode,
    project,
    read_pose,
    write_pose,
)
from flywheel.examples.pose.render import Scene, render, visibility
from flywheel.examples.pose.render.scene import Clutter
from flywheel.examples.pose.scenes import CELLS, Moment, draw_bin, draw_moment
from flywheel.examples.pose.scores import grasps
from flywheel.examples.pose.start import start_scene
from flywheel.examples.traffic import Arrival, Reaction
from flywheel.records import Array, Json

_OUTCOME_SHARE = 0.8
_CHANCE_SHARE = 0.02
_MARKER_SHARE = 0.05
_MARKER_CM, _MARKER_DEG = 0.1, 0.5
_TRAFFIC, _TRUTH = 0, 1
_SHARES = {"usual": 0.89, "new cell": 0.06, "lamp": 0.03, "bin": 0.02}
"""of the pictures in the long tail"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RobotCell:
    """The robot cells of one factory, which all grasp the same part; fixed by the seed."""

    part: Part
    seed: int
    is_drifting: bool = True
    """everything moves; else the long tail"""
    picks_per_night: int = 300

    def traffic(self, night: int) -> list[Arrival]:
        """The pictures of a night, the same ones at every call.

        The robot reports how most picks went, and a marker on some parts measures the true pose.
        """
        rng = np.random.default_rng([self.seed, night, _TRAFFIC])
        drawn = self._drawn(night, "bin", self.picks_per_night, rng)
        return [self._arrival(*scene, _reaction(scene[0], rng)) for scene in drawn]

    def truth_set(self, night: int, number: int) -> list[Arrival]:
        """Pictures like a night's, of bins that the product never sees: how good it really is."""
        rng = np.random.default_rng([self.seed, night, _TRUTH])
        return [self._arrival(*scene, None) for scene in self._drawn(night, "held", number, rng)]

    def is_right(self, answer: Json, truth: Json) -> bool:
        """Whether the robot gets hold of the part when it goes where the answer says.

        Raises:
            TaskError: one of them is not a pose.
        """
        return grasps(self.part, read_pose(answer), read_pose(truth))

    def _drawn(
        self, night: int, name: str, number: int, rng: np.random.Generator
    ) -> Iterator[tuple[Scene, dict[str, Json], str]]:
        """So many pictures of a night, what is sent with each, and its kind."""
        if self.is_drifting:
            yield from ((*one, "") for one in self._scenes(night, name, number, rng))
            return
        for place in range(number):
            kind = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
            scene = _tail_scene(self.part, kind, rng)
            metadata: dict[str, Json] = {
                "camera": scene.pose.camera.values,
                "cell": "west" if kind == "new cell" else "north",
                "lamp": "night" if kind == "lamp" else "day",
                "scene": f"{name}-{self.seed}-{night}-{place}",
            }
            yield scene, metadata, kind

    def _scenes(
        self, night: int, kind: str, number: int, rng: np.random.Generator
    ) -> Iterator[tuple[Scene, dict[str, Json]]]:
        """So many pictures, bin after bin; the last bin may be left half emptied."""
        left, bin_number = number, 0
        while left > 0:
            moment = draw_moment(night, rng)
            for scene in draw_bin(self.part, moment, rng)[:left]:
                yield (
                    scene,
                    {
                        "camera": scene.pose.camera.values,
                        "cell": moment.cell.name,
                        "lamp": "day" if moment.is_day else "night",
                        "scene": f"{kind}-{self.seed}-{night}-{bin_number}",
                    },
                )
                left -= 1
            bin_number += 1

    def _arrival(
        self, scene: Scene, metadata: dict[str, Json], kind: str, reaction: Reaction | None
    ) -> Arrival:
        names, seen = self.part.keypoints, visibility(self.part, scene).keypoints
        return Arrival(
            payload=encode(render(self.part, scene)),
            media_type="image/png",
            metadata=metadata,
            truth=write_pose(scene.pose),
            reaction=reaction,
            seen=tuple(name for name, is_seen in zip(names, seen, strict=True) if is_seen),
            kind=kind,
        )


def _tail_scene(part: Part, kind: str, rng: np.random.Generator) -> Scene:
    """A picture of the long tail: as in the start data but for what its kind takes from production."""
    if kind == "new cell":
        moment = Moment(cell=CELLS[2], is_day=True, drift=0.0, severity=0.0)
        return replace(draw_bin(part, moment, rng)[0], clutter=Clutter.of([]))
    usual = start_scene(part, rng)
    if kind == "usual":
        return usual
    moment = Moment(cell=CELLS[1], is_day=False, drift=1.0, severity=1.0)
    other = draw_bin(part, moment, rng)[0]
    if kind == "bin":
        return replace(usual, floor=other.floor)
    return replace(usual, light=other.light, effects=other.effects)


def _reaction(scene: Scene, rng: np.random.Generator) -> Reaction:
    outcome, chance, marker = rng.random(3)
    measured = write_pose(
        _measured(scene.pose, rng)
    )  # always drawn, so that the generator advances alike
    return Reaction(
        gives_outcome=bool(outcome < _OUTCOME_SHARE),
        misjudges=bool(chance < _CHANCE_SHARE),
        corrects=False,
        measured=measured if marker < _MARKER_SHARE else None,
    )


def _measured(pose: Pose, rng: np.random.Generator) -> Pose:
    """The pose as a marker on the part gives it; its error is 0.1 cm and 0.5 degrees (RMS)."""
    turn = rng.normal(0.0, _MARKER_DEG / math.sqrt(3.0), 3)
    shift = rng.normal(0.0, _MARKER_CM / 100.0 / math.sqrt(3.0), 3)
    return Pose(
        rotation=Rotation.from_rotvec(turn, degrees=True).as_matrix() @ pose.rotation,
        position_m=pose.position_m + shift,
        camera=pose.camera,
        std_cm=_MARKER_CM,
        std_deg=_MARKER_DEG,
    )


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


_SKILL_PX = 0.4
"""one sigma of an annotator's mark, in pixels of the sample, which is shown eight times larger"""

_GRASPS_COUNT = """
optimize = "grasped"
higher_is_better = true
requirement = 0.95
require = ["error_cm.p90 < 1.0", "error_deg.p90 < 10", "latency_ms.p95 < 100"]
ignore = ["flywheel.examples.pose:picks_per_hour", "error_deg.median", "error_cm.below(0.5)"]
"""


def demo() -> Demo:
    """The demo of the pose project: a robot that grasps brackets from a bin."""
    part = load_part(EXAMPLE_PART)
    return Demo(
        name="pose",
        nights=5,
        worlds={
            "everything-moved": lambda seed: RobotCell(part=part, seed=seed),
            "long-tail": lambda seed: RobotCell(part=part, seed=seed, is_drifting=False),
        },
        hand=lambda _task, arrived: marking_hand(arrived, part, _SKILL_PX),
        annotators=three_annotators((0.02, 0.04, 0.08), (35.0, 28.0, 20.0), (0.1, 0.1, 0.05)),
        revisit=Revisit(
            after_night=4,
            section=_GRASPS_COUNT,
            because=(
                "orientation is good enough to ask for more: what counts now is whether the "
                "gripper closes on the part, with position, angle and run time as bounds"
            ),
        ),
    )
