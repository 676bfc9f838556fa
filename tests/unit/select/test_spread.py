import numpy as np
import pytest

from flywheel.select.sampling import spread, stack_embeddings


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def clusters(rng):
    """(90, 2): three far clusters of 30 points each."""
    centres = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 30, axis=0)
    return centres + rng.normal(size=(90, 2))


def test_the_strongest_comes_first(clusters, rng):
    strength = np.full(90, 0.5)
    strength[41] = 0.6
    assert spread(strength, clusters, 5, rng)[0] == 41


def test_three_picks_come_from_three_clusters(clusters):
    for seed in range(20):
        chosen = spread(np.full(90, 0.5), clusters, 3, np.random.default_rng(seed))
        assert {index // 30 for index in chosen} == {0, 1, 2}


def test_copies_are_not_chosen_while_there_is_something_else(rng):
    places = np.repeat([[0.0], [1.0], [2.0], [3.0]], 25, axis=0)
    chosen = spread(np.linspace(0.1, 1, 100), places, 4, rng)
    assert sorted(index // 25 for index in chosen) == [0, 1, 2, 3]


def test_where_all_are_copies_each_is_still_chosen_once(rng):
    chosen = spread(np.zeros(10), np.ones((10, 3)), 6, rng)
    assert len(set(chosen)) == 6


def test_fewer_than_asked_for_are_all_taken_strongest_first(rng):
    assert spread(np.array([0.1, 0.9, 0.5]), np.zeros((3, 2)), 3, rng) == [1, 2, 0]
    assert spread(np.zeros(0), np.zeros((0, 0)), 3, rng) == []


def test_the_same_seed_chooses_the_same(clusters):
    picks = [spread(np.ones(90), clusters, 9, np.random.default_rng(1)) for _ in range(2)]
    assert picks[0] == picks[1]


def test_the_embeddings_of_two_models_are_put_on_one_scale():
    small = [("a", np.array([0.0, 1.0])), ("a", np.array([0.0, 3.0]))]
    large = [("b", np.array([500.0])), ("b", np.array([900.0]))]
    stacked = stack_embeddings(small + large)
    np.testing.assert_allclose(stacked, [[0, -1], [0, 1], [-1, 0], [1, 0]])


def test_a_single_embedding_and_none_at_all_can_be_stacked():
    np.testing.assert_array_equal(stack_embeddings([("a", np.array([7.0]))]), [[0.0]])
    assert stack_embeddings([]).shape == (0, 0)
