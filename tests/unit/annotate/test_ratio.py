"""Costs per thing: the right number, an interval that holds for skewed times, or no number."""

import numpy as np
import pytest

from flywheel.annotate.cost import ratio, spread_of

ONES = np.ones


def test_too_few_things_give_no_number():
    assert ratio(np.array([]), np.array([])) is None
    assert ratio(ONES(4), ONES(4)) is None
    assert ratio(ONES(50), np.eye(1, 50)[0]) is None


def test_the_value_is_the_ratio_of_the_sums():
    found = ratio(np.array([1.0, 2, 3, 4, 10, 0]), np.array([1.0, 0, 1, 1, 1, 1]))
    assert found.value == pytest.approx(20 / 5)
    assert found.num_samples == 5
    assert 0 <= found.low < found.value < found.high


def test_a_time_twice_as_long_has_bounds_twice_as_high():
    times = np.random.default_rng(0).lognormal(3, 1, 40)
    one, two = ratio(times, ONES(40)), ratio(2 * times, ONES(40))
    assert (two.value, two.low, two.high) == pytest.approx(
        (2 * one.value, 2 * one.low, 2 * one.high)
    )


def test_equal_times_still_have_a_width():
    found = ratio(np.full(20, 4.0), ONES(20))
    assert found.low < 4.0 < found.high < 8.0
    many = ratio(np.full(2000, 4.0), ONES(2000))
    assert many.high - many.low < 0.1


def test_skew_lengthens_the_side_of_the_long_times():
    times = np.random.default_rng(1).lognormal(3, 1, 30)
    found = ratio(times, ONES(30))
    assert found.high - found.value > 1.1 * (found.value - found.low)


@pytest.mark.parametrize(("number", "sigma"), [(10, 0.5), (20, 0.8), (60, 1.0)])
def test_the_interval_holds_for_times_as_annotators_need_them(number, sigma):
    rng, truth = np.random.default_rng(2), np.exp(0.5 * sigma**2)
    found = [ratio(rng.lognormal(0, sigma, number), ONES(number)) for _ in range(1500)]
    above = np.mean([one.low > truth for one in found])
    below = np.mean([one.high < truth for one in found])
    assert above < 0.03
    assert below < 0.065  # Student's alone: 0.06 to 0.13


def test_with_what_brings_nothing_the_interval_holds_too():
    """Of three answers one gives no label: it costs all the same."""
    rng, found = np.random.default_rng(3), []
    for _ in range(800):
        brought = (rng.random(60) < 2 / 3).astype(float)
        found.append(ratio(rng.lognormal(0, 0.8, 60), brought))
    truth = np.exp(0.32) * 1.5
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.93


def test_the_spread_of_plain_times_is_their_standard_deviation():
    times = np.random.default_rng(4).normal(50, 7, 400)
    assert spread_of(times, ONES(400)) == pytest.approx(times.std(ddof=1))
