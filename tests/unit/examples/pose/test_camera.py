"""Projection is OpenCV's, rays undo it, and a camera that cannot be is refused by name."""

import cv2
import numpy as np
import pytest

from flywheel.errors import PayloadError
from flywheel.examples.pose.posing import Camera, project, rays


def test_pixels_are_opencvs(camera):
    points = np.random.default_rng(0).uniform([-1, -1, 1], [1, 1, 3], (50, 3))
    matrix = np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, None)
    np.testing.assert_allclose(project(points, camera), expected[:, 0], atol=1e-9)


def test_rays_undo_the_projection(camera):
    points = np.random.default_rng(1).uniform([-1, -1, 1], [1, 1, 3], (4, 5, 3))
    expected = points[..., :2] / points[..., 2:]
    np.testing.assert_allclose(rays(project(points, camera), camera), expected, atol=1e-12)


def test_the_optical_axis_meets_the_principal_point(camera):
    assert project(np.array([0.0, 0.0, 2.0]), camera).tolist() == [camera.cx, camera.cy]


@pytest.mark.parametrize("depth", [0.0, -1.0])
def test_what_is_not_in_front_has_no_pixel(camera, depth):
    assert np.isnan(project(np.array([0.1, 0.2, depth]), camera)).all()


def test_a_sample_carries_its_camera():
    found = Camera.of({"camera": [70, 71.5, 31.5, 30.5]}, "sample abc")
    assert found.values == [70.0, 71.5, 31.5, 30.5]


@pytest.mark.parametrize(
    ("metadata", "reported"),
    [
        ({"site": "dock"}, "no camera, only site"),
        ({}, "only nothing"),
        ({"camera": None}, "is not a list of numbers"),
        ({"camera": "70"}, "is not a list of numbers"),
        ({"camera": [70, 70, 31.5, True]}, "is not a list of numbers"),
        ({"camera": [70, 70, 31.5, float("nan")]}, "is not a list of numbers"),
        ({"camera": [10**400, 70, 31.5, 3]}, "is not a list of numbers"),
        ({"camera": [70, 70, 31.5]}, "has 3 numbers"),
        ({"camera": [70, 0, 31.5, 31.5]}, "cannot be inverted"),
        ({"camera": [-70, 70, 31.5, 31.5]}, "cannot be inverted"),
    ],
)
def test_a_camera_that_cannot_be_is_reported_with_the_samples_name(metadata, reported):
    with pytest.raises(PayloadError, match=f"sample abc: .*{reported}"):
        Camera.of(metadata, "sample abc")
