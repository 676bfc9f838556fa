import numpy as np
import pytest

from flywheel.decide.facts import samples_for, told
from flywheel.evaluate.intervals import student


def test_enough_samples_are_enough_four_times_in_five(number):
    """The plan against its meaning: draw that many, and count how often the bound clears."""
    rng, gain = np.random.default_rng(1), 0.1
    half = 1.6449 / 100**0.5  # of 100 samples with a standard deviation of 1
    planned = samples_for(gain, number(gain, gain - half, gain + half), 0.0, 0.05)
    lows = [student(rng.normal(gain, 1, planned), np.ones(planned), 0.05)[0] for _ in range(400)]
    assert np.mean(np.array(lows) > 0) == pytest.approx(0.8, abs=0.06)


def test_for_rates_it_is_the_usual_rule(number):
    # 6.18 p_d / gain^2 with p_d = 0.05, gain = 0.02 is 773.
    half = 1.6449 * (0.05 / 100) ** 0.5
    assert samples_for(0.02, number(0.02, 0.02 - half, 0.02 + half), 0.0, 0.05) == pytest.approx(
        773, abs=2
    )


def test_no_number_of_samples_shows_a_gain_that_is_not_there(number):
    assert samples_for(0.05, number(0.05, 0.0, 0.1), 0.05, 0.05) is None


def test_a_number_is_told_with_its_interval_and_its_samples(number):
    assert told(number(0.91234, 0.8, 0.95, 40)) == "0.912 (0.8 to 0.95, 40 samples)"
