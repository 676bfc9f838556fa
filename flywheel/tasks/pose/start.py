"""The data that a pose project begins with: clean pictures of the part, rendered from its mesh.

One lamp, a plain floor, a camera that stands where it should, nothing else in the bin: what can be
had before the robot runs. It is narrower than production on purpose; it refuses to know how.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from flywheel.records import Sample, Split
from flywheel.task import Example
from flywheel.tasks.pose.camera import Camera
from flywheel.tasks.pose.image import encode
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.posing import write_pose
from flywheel.tasks.pose.render.effects import Effects
from flywheel.tasks.pose.render.layout import leaning, look_at, resting, seen_from
from flywheel.tasks.pose.render.picture import render
from flywheel.tasks.pose.render.scene import Light, Scene
from flywheel.tasks.pose.render.texture import Surface

_SEED = 23
_CAMERA = Camera(fx=200.0, fy=200.0, cx=31.5, cy=31.5)
_EYE_M = np.array([0.0, -0.15, 0.43])
"""for a part of 10 cm; all lengths grow with the part"""
_PART_M = 0.1
_LAMP = np.array([-0.35, 0.3, 0.89])
_METAL = Surface(colour=(0.42, 0.43, 0.45), gloss=0.15)
_MAT = Surface(colour=(0.2, 0.21, 0.22))
_MOST_TILT_DEG = 15.0
_NOISE = 0.006


def start_examples(part: Part, num_train: int = 1_500, num_test: int = 200) -> Iterator[Example]:
    """Labeled pictures to train on, then those held for testing; the same ones at every call."""
    rng = np.random.default_rng(_SEED)
    for number in range(num_train + num_test):
        scene = start_scene(part, rng)
        metadata = {
            "camera": scene.pose.camera.values,
            "scene": f"start-{number}",
            "cell": "cad",
        }
        yield Example(
            sample=Sample.of(encode(render(part, scene)), "image/png", metadata),
            answer=write_pose(scene.pose),
            split=Split.TRAIN if number < num_train else Split.TEST,
        )


def start_scene(part: Part, rng: np.random.Generator) -> Scene:
    """The part alone on a plain floor: turned in any way, hardly tilted."""
    scale = part.diameter_m / _PART_M
    view = look_at(_EYE_M * scale, np.array([0.0, 0.0, 0.2 * part.diameter_m]))
    rotation = leaning(
        rng.uniform(0.0, 360.0), rng.uniform(0.0, _MOST_TILT_DEG), rng.uniform(0.0, 360.0)
    )
    position = resting(part, rotation, rng.uniform(-0.012, 0.012, 2) * scale)
    lamp = _LAMP + rng.normal(0.0, 0.03, 3)
    return Scene(
        pose=seen_from(view, _CAMERA, rotation, position),
        view=view,
        light=Light(direction=lamp / math.sqrt(lamp @ lamp)),
        part=_METAL,
        floor=_MAT,
        effects=Effects(noise=_NOISE, seed=int(rng.integers(2**62))),
    )
