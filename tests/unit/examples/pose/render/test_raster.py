"""Triangles take the samples that lie in them, the nearest wins, and depth is exact."""

import numpy as np
import pytest

from flywheel.examples.pose.render.raster import corners_of, cover, face_planes, rasterise

CAMERA = np.array([20.0, 20.0, 15.5, 15.5])


def drawn(points, faces, side=32):
    planes = face_planes(points, faces)
    near = np.zeros((side, side), dtype=np.float32)
    seen = np.full((side, side), -1, dtype=np.int32)
    rasterise(corners_of(points, faces, CAMERA), planes, CAMERA, near, seen, 0)
    return near, seen


def triangle(depths, size=0.6):
    """Counter-clockwise as the camera sees it, whose y points down."""
    rays = np.array([(-1.0, -1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, 0.2, 1.0)]) * [size, size, 1.0]
    return rays * np.array(depths)[:, None]


ONE = np.array([[0, 1, 2]], dtype=np.int32)


def test_exactly_the_samples_inside_are_taken():
    points = triangle([0.4, 0.9, 0.6])
    _, seen = drawn(points, ONE)
    a, b, c = corners_of(points, ONE, CAMERA)[0]
    places = np.stack(np.meshgrid(np.arange(32), np.arange(32)), axis=-1)
    sides = [(places - p) @ [q[1] - p[1], p[0] - q[0]] for p, q in ((a, b), (b, c), (c, a))]
    inside = np.all(np.array(sides) > 0, axis=0)
    np.testing.assert_array_equal(seen == 0, inside)


def test_depth_is_that_of_the_plane_along_each_ray():
    points = triangle([0.4, 0.9, 0.6])
    near, seen = drawn(points, ONE)
    rows, columns = np.nonzero(seen == 0)
    rays = np.column_stack([(columns - 15.5) / 20.0, (rows - 15.5) / 20.0, np.ones(len(rows))])
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    np.testing.assert_allclose(near[rows, columns], rays @ normal / (normal @ points[0]), rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_face_is_seen_whatever_is_drawn_first(order):
    points = np.concatenate([triangle([0.8] * 3), triangle([0.5] * 3, size=0.3)])
    faces = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.int32)[list(order)]
    near, seen = drawn(points, faces)
    assert near.max() == np.float32(1 / 0.5)
    assert seen[15, 13] == order.index(1)


def test_neighbours_leave_no_gap_between_them():
    rng = np.random.default_rng(0)
    ring = np.array([(-0.7, -0.7), (-0.7, 0.7), (0.7, 0.7), (0.7, -0.7)])
    for middle in rng.uniform(-0.3, 0.3, (50, 2)):
        points = np.column_stack([np.concatenate([ring, [middle]]), np.ones(5)])
        faces = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], dtype=np.int32)
        assert np.all(drawn(points, faces)[1][3:29, 3:29] >= 0)


def test_faces_turned_away_and_faces_too_near_are_left_out():
    away, too_near = ONE[:, ::-1].copy(), triangle([0.4, 0.005, 0.6])
    assert np.all(face_planes(triangle([0.5] * 3), away) == 0)
    assert np.all(face_planes(too_near, ONE) == 0)
    assert np.all(drawn(triangle([0.5] * 3), away)[1] == -1)


def test_a_face_that_reaches_out_of_the_image_is_cut_there():
    near, seen = drawn(triangle([0.5] * 3, size=50.0), ONE)
    assert np.all(seen[:, :20] == 0)
    assert near.shape == (32, 32)


def test_cover_marks_what_a_face_covers_that_shows_its_outer_side():
    corners = corners_of(triangle([0.4, 0.9, 0.6]), ONE, CAMERA)
    seen, unseen = np.zeros((2, 32, 32), dtype=np.float32)
    cover(corners, seen)
    cover(corners[:, ::-1].copy(), unseen)
    np.testing.assert_array_equal(seen == 1, drawn(triangle([0.4, 0.9, 0.6]), ONE)[1] == 0)
    assert not unseen.any()


def test_corners_are_where_the_camera_sees_them():
    points = triangle([0.4, 0.9, 0.6])
    expected = points[:, :2] / points[:, 2:] * CAMERA[:2] + CAMERA[2:]
    np.testing.assert_allclose(corners_of(points, ONE, CAMERA)[0], expected)
