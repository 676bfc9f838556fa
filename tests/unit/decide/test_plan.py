"""Plans against their meaning: with so many labels, four challenges in five promote."""

import numpy as np
import pytest

from flywheel.decide.eprocess import e_value
from flywheel.decide.plan import Draw, labels_for_gain, labels_to_go, plan_gains
from flywheel.records import FreshOutcomes


@pytest.fixture
def promoted():
    """(gain, discordance, labels, alpha, scale, min_gain) -> share of 600 challenges promoted."""

    def run(gain, discordance, labels, alpha, scale=1.0, min_gain=0.0):
        rng = np.random.default_rng(10)
        chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
        gains = rng.choice([1.0, -1.0, 0.0], (600, labels), p=chances)
        values = [e_value(_outcomes(row, scale), min_gain) for row in gains]
        return np.mean(np.array(values) >= 1 / alpha)

    return run


def _outcomes(gains, scale=1.0):
    return FreshOutcomes(
        gains=tuple(gains), scales=(scale,) * len(gains), is_bounded=True, num_new=len(gains)
    )


@pytest.mark.parametrize(
    ("gain", "discordance", "alpha", "min_gain"),
    [(0.12, 0.2, 0.017, 0.0), (0.05, 0.1, 0.05, 0.0), (0.3, 0.3, 0.017, 0.0), (0.1, 0.2, 0.05, 0.02)],
)  # fmt: skip
def test_so_many_labels_promote_four_times_in_five(promoted, gain, discordance, alpha, min_gain):
    labels = labels_for_gain(gain, discordance, alpha, min_gain=min_gain)
    assert promoted(gain, discordance, labels, alpha, 1.0, min_gain) == pytest.approx(0.8, abs=0.06)


def test_an_uneven_draw_is_planned_for_too(promoted):
    draw = Draw(mean_scale=0.5, discordant_scale=0.5)
    labels = labels_for_gain(0.2, 0.3, 0.05, draw=draw)
    assert promoted(0.2, 0.3, labels, 0.05, scale=0.5) == pytest.approx(0.8, abs=0.06)


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


def test_a_tiny_gain_has_no_nights():
    assert plan_gains((0.0005,), 0.1, 0.017, labels_per_night=25)[0].nights is None


def test_labels_to_go_are_about_those_of_the_plan():
    gains = ([1.0] * 8 + [-1.0] * 2 + [0.0] * 40) * 2
    planned = labels_for_gain(0.12, 0.2, 0.017)
    ahead = labels_to_go(_outcomes(gains), 0.0, 0.017)
    assert len(gains) + ahead == pytest.approx(planned, rel=0.35)


def test_evidence_that_is_there_needs_no_more_labels():
    assert labels_to_go(_outcomes([1.0] * 20), 0.0, 0.05) == 0


@pytest.mark.parametrize("gains", [[], [0.0] * 40, [-1.0] * 40, [1.0, -1.0] * 20])
def test_no_number_of_labels_is_given_where_nothing_grows(gains):
    assert labels_to_go(_outcomes(gains), 0.0, 0.05) is None


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
