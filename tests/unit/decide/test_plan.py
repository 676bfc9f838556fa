"""Plans against their meaning: with so many labels, four challenges in five promote."""

import numpy as np
import pytest

from flywheel.decide.plan import Leaning, labels_for_gain, plan_gains
from flywheel.metrics.eprocess import e_value
from flywheel.records import FreshOutcomes


@pytest.fixture
def promoted():
    """(gain, discordance, labels, alpha, min_gain) -> share of 600 challenges promoted."""

    def run(gain, discordance, labels, alpha, min_gain=0.0):
        rng = np.random.default_rng(10)
        chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
        gains = rng.choice([1.0, -1.0, 0.0], (600, labels), p=chances)
        values = [e_value(_outcomes(row), min_gain) for row in gains]
        return np.mean(np.array(values) >= 1 / alpha)

    return run


def _outcomes(gains):
    return FreshOutcomes(
        gains=tuple(gains), scales=(1.0,) * len(gains), is_bounded=True, num_new=len(gains)
    )


@pytest.mark.parametrize(
    ("gain", "discordance", "alpha", "min_gain"),
    [(0.12, 0.2, 0.017, 0.0), (0.05, 0.1, 0.05, 0.0), (0.3, 0.3, 0.017, 0.0), (0.1, 0.2, 0.05, 0.02)],
)  # fmt: skip
def test_so_many_labels_promote_four_times_in_five(promoted, gain, discordance, alpha, min_gain):
    labels = labels_for_gain(gain, discordance, alpha, min_gain=min_gain)
    assert promoted(gain, discordance, labels, alpha, min_gain) == pytest.approx(0.8, abs=0.06)


def test_a_draw_that_leans_from_the_first_label_is_one_of_larger_gains(promoted):
    labels = labels_for_gain(0.05, 0.1, 0.017, leaning=Leaning(0, 0.5))
    assert labels == labels_for_gain(0.25, 0.5, 0.017)
    assert promoted(0.25, 0.5, labels, 0.017) == pytest.approx(0.8, abs=0.06)


def test_labels_before_it_leans_count_as_an_even_draws():
    even = labels_for_gain(0.05, 0.1, 0.017)
    assert labels_for_gain(0.05, 0.1, 0.017, leaning=Leaning(even, 0.5)) == even
    early, late = (
        labels_for_gain(0.05, 0.1, 0.017, leaning=Leaning(after, 0.5)) for after in (0, 30)
    )
    assert early < late < min(early + 30, even / 2)


def test_only_wins_need_as_many_as_the_stake_takes_to_grow():
    # the mean stake of n wins is the mean of (1 + b)^n: 24.9 after 6, 44.6 after 7
    assert labels_for_gain(1.0, 1.0, 1 / 20) == 6
    assert labels_for_gain(1.0, 1.0, 1 / 40) == 7


@pytest.mark.parametrize(
    ("gain", "min_gain"), [(0.0, 0.0), (-0.1, 0.0), (0.05, 0.05), (0.0005, 0.0)]
)
def test_no_number_of_labels_shows_a_gain_that_is_not_there_or_tiny(gain, min_gain):
    assert labels_for_gain(gain, 0.2, 0.05, min_gain=min_gain) is None


def test_larger_gains_take_fewer_labels_and_nights():
    rows = plan_gains((0.02, 0.05, 0.1, 0.2), 0.1, 0.017, labels_per_night=25)
    labels = [row.num_labels for row in rows]
    assert labels == sorted(labels, reverse=True)
    assert [row.nights for row in rows] == [-(-count // 25) for count in labels]


def test_a_plan_leans_as_far_as_its_discordance_allows():
    [row] = plan_gains((0.05,), 0.02, 0.017, 25, lambda differs: Leaning(30, 10 * differs))
    assert row.num_labels == labels_for_gain(0.05, 0.05, 0.017, leaning=Leaning(30, 0.5))


def test_a_tiny_gain_has_no_nights():
    assert plan_gains((0.0005,), 0.1, 0.017, labels_per_night=25)[0].nights is None


@pytest.mark.parametrize(
    ("gain", "discordance", "alpha", "message"),
    [
        (0.2, 0.1, 0.05, r"discordance = 0\.1; it must be at least the gain 0\.2"),
        (0.2, 1.1, 0.05, r"discordance = 1\.1; .*at most 1"),
        (0.2, 0.3, 0.0, r"alpha = 0\.0; it must be a probability"),
    ],
)
def test_impossible_plans_are_refused(gain, discordance, alpha, message):
    with pytest.raises(ValueError, match=message):
        labels_for_gain(gain, discordance, alpha)
