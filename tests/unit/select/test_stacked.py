import numpy as np

from flywheel.select.sampling import stack_embeddings


def test_the_embeddings_of_two_models_are_put_on_one_scale():
    small = [("a", np.array([0.0, 1.0])), ("a", np.array([0.0, 3.0]))]
    large = [("b", np.array([500.0])), ("b", np.array([900.0]))]
    stacked = stack_embeddings(small + large)
    np.testing.assert_allclose(stacked, [[0, -1], [0, 1], [-1, 0], [1, 0]])


def test_a_single_embedding_and_none_at_all_can_be_stacked():
    np.testing.assert_array_equal(stack_embeddings([("a", np.array([7.0]))]), [[0.0]])
    assert stack_embeddings([]).shape == (0, 0)


def test_an_embedding_that_is_not_finite_has_no_direction_and_spoils_no_other():
    bad = [("a", np.array([np.nan, 1.0])), ("a", np.array([np.inf, 2.0]))]
    stacked = stack_embeddings([*bad, ("a", np.array([0.0, 1.0])), ("a", np.array([0.0, 3.0]))])
    np.testing.assert_allclose(stacked[2:], [[0, -np.sqrt(2)], [0, np.sqrt(2)]])
    np.testing.assert_array_equal(stacked[:2], 0)


def test_embeddings_none_of_which_is_finite_or_has_a_length_are_all_zero():
    empty, bad = ("a", np.zeros(0)), ("b", np.array([np.nan, np.nan]))
    np.testing.assert_array_equal(stack_embeddings([empty, bad, bad]), np.zeros((3, 2)))
