"""Scenes of the example part that the tests of the renderer share."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.examples.pose.posing import Camera
from flywheel.examples.pose.render import Scene
from flywheel.examples.pose.render.scene import Light, leaning, look_at, resting, seen_from
from flywheel.examples.pose.render.texture import Surface

CAMERA = Camera(fx=165.0, fy=165.0, cx=31.5, cy=31.5)
GREY, RED = Surface(colour=(0.3, 0.3, 0.3)), Surface(colour=(0.7, 0.05, 0.05))


@pytest.fixture(scope="session")
def make_scene(part):
    """(how the part lies, changes of the scene) -> a red part on a grey floor, seen from above."""

    def build(yaw_deg=30.0, tilt_deg=0.0, place_m=(0.0, 0.0), eye_m=(0.0, 0.0, 0.45), **changes):
        view = look_at(np.array(eye_m), np.zeros(3))
        rotation = leaning(yaw_deg, tilt_deg, 70.0)
        position = resting(part, rotation, np.array(place_m))
        scene = Scene(
            pose=seen_from(view, CAMERA, rotation, position),
            view=view,
            light=Light(direction=np.array([0.6, 0.0, 0.8])),
            part=RED,
            floor=GREY,
        )
        return replace(scene, **changes)

    return build
