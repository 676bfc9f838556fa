"""A robot that empties bins of one part: its pictures, where the part truly is, and what happens.

Production is wider than the start data from the first night and drifts further, more and more
slowly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.camera import encode
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Pose, read_pose, write_pose
from flywheel.examples.pose.render import Scene, render, visibility
from flywheel.examples.pose.scenes import draw_bin, draw_moment
from flywheel.examples.pose.scores import grasps
from flywheel.examples.traffic import Arrival, Reaction
from flywheel.records import Json

_OUTCOME_SHARE = 0.8
_CHANCE_SHARE = 0.02
_MARKER_SHARE = 0.05
_MARKER_CM, _MARKER_DEG = 0.1, 0.5
_TRAFFIC, _TRUTH = 0, 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RobotCell:
    """The robot cells of one factory, which all grasp the same part; fixed by the seed."""

    part: Part
    seed: int
    picks_per_night: int = 300

    def traffic(self, night: int) -> list[Arrival]:
        """The pictures of a night, the same ones at every call.

        The robot reports how most picks went, and a marker on some parts measures the true pose.
        """
        rng = np.random.default_rng([self.seed, night, _TRAFFIC])
        scenes = self._scenes(night, "bin", self.picks_per_night, rng)
        return [self._arrival(scene, metadata, _reaction(scene, rng)) for scene, metadata in scenes]

    def truth_set(self, night: int, number: int) -> list[Arrival]:
        """Pictures like a night's, of bins that the product never sees: how good it really is."""
        rng = np.random.default_rng([self.seed, night, _TRUTH])
        scenes = self._scenes(night, "held", number, rng)
        return [self._arrival(scene, metadata, None) for scene, metadata in scenes]

    def is_right(self, answer: Json, truth: Json) -> bool:
        """Whether the robot gets hold of the part when it goes where the answer says.

        Raises:
            TaskError: one of them is not a pose.
        """
        return grasps(self.part, read_pose(answer), read_pose(truth))

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
        self, scene: Scene, metadata: dict[str, Json], reaction: Reaction | None
    ) -> Arrival:
        names, seen = self.part.keypoints, visibility(self.part, scene).keypoints
        return Arrival(
            payload=encode(render(self.part, scene)),
            media_type="image/png",
            metadata=metadata,
            truth=write_pose(scene.pose),
            reaction=reaction,
            seen=tuple(name for name, is_seen in zip(names, seen, strict=True) if is_seen),
        )


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
