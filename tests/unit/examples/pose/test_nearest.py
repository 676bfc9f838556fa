"""The nearest distance is exact, wherever the points and the queries are."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from flywheel.examples.pose.mesh import Nearest


def _cloud(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3))


CLOUDS = {
    "one": np.array([[0.1, -0.2, 0.3]]),
    "two": _cloud(2),
    "a full leaf": _cloud(32),
    "one more than a leaf": _cloud(33),
    "many": _cloud(1000),
    "equal": np.ones((100, 3)),
    "duplicated": np.repeat(_cloud(40), 5, axis=0),
    "on a line": np.linspace(0, 1, 300)[:, None] * [1.0, 2.0, -3.0],
    "in a plane": _cloud(300) * [1.0, 1.0, 0.0],
    "on a grid": np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3),
    "two far clusters": np.concatenate([_cloud(50), _cloud(50, 1) + 1e6]),
}
QUERIES = {
    "near": lambda points: points + 0.05 * _cloud(len(points), 2),
    "the points": lambda points: points[::-1],
    "anywhere": lambda _: 3 * _cloud(500, 3),
    "far": lambda points: points.mean(axis=0) + 1e4 * _cloud(200, 4),
    "one axis off": lambda points: points + np.array([0, 50, 0]),
    "between": lambda points: (points + points[::-1]) / 2,
}


@pytest.mark.parametrize("queries", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("points", CLOUDS.values(), ids=CLOUDS)
def test_distances_are_those_of_a_k_d_tree(points, queries):
    asked = queries(points)
    expected, _ = cKDTree(points).query(asked)
    np.testing.assert_allclose(Nearest(points).distances(asked), expected, rtol=1e-12, atol=1e-12)


def test_distances_are_those_of_the_definition():
    points, queries = _cloud(70), _cloud(30, 5)
    expected = [min(np.linalg.norm(query - point) for point in points) for query in queries]
    np.testing.assert_allclose(Nearest(points).distances(queries), expected, rtol=1e-12)


def test_the_order_of_the_queries_does_not_matter():
    index, queries = Nearest(_cloud(500)), _cloud(200, 6)
    order = np.random.default_rng(7).permutation(200)
    assert (index.distances(queries[order]) == index.distances(queries)[order]).all()


def test_queries_may_have_any_shape():
    index, queries = Nearest(_cloud(50)), _cloud(24, 8)
    shaped = index.distances(queries.reshape(2, 3, 4, 3))
    assert shaped.tolist() == index.distances(queries).reshape(2, 3, 4).tolist()
    assert index.distances(np.zeros((0, 3))).shape == (0,)
    assert index.distances(queries[0]).shape == ()


def test_single_precision_and_slices_are_queries_too():
    index, queries = Nearest(_cloud(50).astype(np.float32)), _cloud(60, 9)
    found = index.distances(queries.astype(np.float32)[::2])
    np.testing.assert_allclose(found, index.distances(queries)[::2], atol=1e-5)


@pytest.mark.parametrize("count", [1, 32, 50, 1000])
def test_its_points_are_the_same_points_and_neighbours_follow_one_another(count):
    points = _cloud(count)
    found = Nearest(points).points
    assert sorted(found.tolist()) == sorted(points.tolist())
    steps = [np.linalg.norm(np.diff(each, axis=0), axis=1).sum() for each in (found, points)]
    assert count < 1000 or steps[0] < 0.5 * steps[1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_cannot_be_are_refused(value):
    with pytest.raises(ValueError, match="2 queries, not all of them finite"):
        Nearest(_cloud(50)).distances(np.array([[0.0, 0.0, 0.0], [0.0, value, 0.0]]))


@pytest.mark.parametrize(
    ("points", "reported"),
    [
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.zeros((4, 2)), r"shape \(4, 2\)"),
        (np.full((4, 3), np.nan), "not all of them finite"),
    ],
)
def test_points_that_cannot_be_are_refused(points, reported):
    with pytest.raises(ValueError, match=reported):
        Nearest(points)
