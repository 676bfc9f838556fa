import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.select.sampling import (
    inclusion_probabilities,
    leaning_probabilities,
    poisson_sample,
)

UNCERTAINTY = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


@given(UNCERTAINTY, st.floats(0.01, 60))
def test_probabilities_are_in_0_to_1_and_sum_to_the_expected_size(uncertainty, expected_size):
    found = inclusion_probabilities(uncertainty, expected_size)
    assert found.min() > 0
    assert found.max() <= 1
    assert found.sum() == pytest.approx(min(expected_size, len(uncertainty)))


@given(UNCERTAINTY, st.floats(0.01, 60))
def test_the_more_uncertain_is_never_the_less_probable(uncertainty, expected_size):
    found = inclusion_probabilities(uncertainty, expected_size)
    assert (np.diff(found[np.argsort(uncertainty)]) >= -1e-12).all()


def test_a_draw_that_leans_is_even_by_three_tenths_and_the_rest_is_where_answers_differ():
    found = leaning_probabilities(np.arange(100) < 10, 8.0)
    np.testing.assert_allclose(found, [0.024 + 0.56] * 10 + [0.024] * 90)


def test_what_differs_is_drawn_for_certain_when_there_is_room():
    found = leaning_probabilities(np.arange(100) < 4, 20.0)
    np.testing.assert_allclose(found, [1.0] * 4 + [16 / 96] * 96)


@pytest.mark.parametrize("number", [0, 51, 100])
def test_where_nothing_or_most_differs_there_is_nothing_to_lean_towards(number):
    assert leaning_probabilities(np.arange(100) < number, 8.0) is None


def test_where_nothing_is_uncertain_the_draw_is_uniform():
    np.testing.assert_allclose(inclusion_probabilities(np.zeros(10), 3.0), 0.3)


def test_a_known_case():
    found = inclusion_probabilities(np.array([0.0, 0.5, 0.5]), 1.0)
    np.testing.assert_allclose(found, [0.8 / 3, 1.1 / 3, 1.1 / 3])


def test_what_would_pass_1_is_1_and_the_others_share_the_rest():
    found = inclusion_probabilities(np.array([1.0, 0.0, 0.0]), 2.5)
    np.testing.assert_allclose(found, [1.0, 0.75, 0.75])


def test_more_than_there_is_takes_all():
    np.testing.assert_array_equal(inclusion_probabilities(np.array([0.0, 1.0]), 7.0), [1, 1])


def test_nothing_asked_or_nothing_there_draws_nothing():
    rng = np.random.default_rng(0)
    taken, _ = poisson_sample(inclusion_probabilities(np.ones(5), 0.0), 3, rng)
    assert len(taken) == 0
    taken, inclusion = poisson_sample(inclusion_probabilities(np.zeros(0), 5.0), 3, rng)
    assert len(taken) == len(inclusion) == 0


@given(UNCERTAINTY, st.floats(0.1, 40), st.integers(0, 10), st.integers(0, 2**32))
def test_a_draw_never_passes_its_limit_and_takes_nothing_twice(uncertainty, size, most, seed):
    wanted = inclusion_probabilities(uncertainty, size)
    taken, inclusion = poisson_sample(wanted, most, np.random.default_rng(seed))
    assert len(taken) == len(set(taken)) <= most
    assert ((inclusion >= 0) & (inclusion <= wanted + 1e-12)).all()


def test_with_room_enough_the_stored_probability_is_that_of_the_poisson_draw():
    wanted = inclusion_probabilities(np.linspace(0, 1, 30), 5.0)
    _, inclusion = poisson_sample(wanted, 30, np.random.default_rng(0))
    np.testing.assert_allclose(inclusion, wanted)


@pytest.mark.parametrize("most", [12, 2, 1])
def test_items_are_drawn_as_often_as_their_probabilities_say(most):
    """Also where the budget cuts draws short; 4 standard errors over 8,000 draws."""
    wanted, draws = inclusion_probabilities(np.linspace(0, 1, 12) ** 2, 2.0), 8_000
    counts, expected, rng = np.zeros(12), np.zeros(12), np.random.default_rng(5)
    for _ in range(draws):
        taken, inclusion = poisson_sample(wanted, most, rng)
        counts[taken] += 1
        expected += inclusion
    mean = expected / draws
    assert (abs(counts / draws - mean) < 4 * np.sqrt(mean / draws)).all()


@pytest.mark.parametrize("most", [60, 8])
def test_weighted_means_are_unbiased_although_hard_items_are_drawn_more_often(most):
    rng = np.random.default_rng(11)
    uncertainty = rng.random(60)
    right = (rng.random(60) > uncertainty).astype(float)
    wanted, totals, ratios = inclusion_probabilities(uncertainty, 6.0), [], []
    for _ in range(3_000):
        taken, inclusion = poisson_sample(wanted, most, rng)
        weight = 1 / inclusion[taken]
        totals.append((weight * right[taken]).sum() / 60)
        ratios.append(totals[-1] * 60 / weight.sum() if len(taken) else np.nan)
    error = np.std(totals) / np.sqrt(3_000)
    assert np.mean(totals) == pytest.approx(right.mean(), abs=4 * error)
    assert np.nanmean(ratios) == pytest.approx(right.mean(), abs=0.04)  # Hajek: bias is O(1/n)
