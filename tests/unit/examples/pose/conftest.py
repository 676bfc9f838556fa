"""Cameras and poses that the tests of the pose task share."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.examples.pose.posing import Camera, Pose

CAMERA = Camera(fx=80.0, fy=78.0, cx=31.5, cy=30.0)


@pytest.fixture(scope="session")
def camera() -> Camera:
    return CAMERA


@pytest.fixture(scope="session")
def make_pose():
    """(turn about an axis, position, camera) -> a pose."""

    def build(rotvec_deg=(0.0, 0.0, 0.0), position_m=(0.0, 0.0, 0.5), camera=CAMERA):
        rotation = Rotation.from_rotvec(rotvec_deg, degrees=True).as_matrix()
        return Pose(rotation=rotation, position_m=np.array(position_m), camera=camera)

    return build


@pytest.fixture(scope="session")
def draw_poses():
    """(number, seed) -> poses turned in any way, 0.3 to 0.6 m before the camera."""

    def draw(number, seed):
        rng = np.random.default_rng(seed)
        rotations = Rotation.random(number, rng=rng).as_matrix()
        positions = rng.uniform([-0.1, -0.1, 0.3], [0.1, 0.1, 0.6], (number, 3))
        pairs = zip(rotations, positions, strict=True)
        return [Pose(rotation=r, position_m=t, camera=CAMERA) for r, t in pairs]

    return draw


@pytest.fixture(scope="session")
def part() -> Part:
    """The example part."""
    return load_part(EXAMPLE_PART)
