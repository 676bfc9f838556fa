"""What a gain is worth, against numbers worked out by hand."""

from dataclasses import astuple

import pytest

from flywheel.decide.curve import Outlook
from flywheel.decide.worth import worth_of
from flywheel.records import Abstention, RiskPoint
from flywheel.settings.labeling import Value

GAIN = Outlook(0.05, 0.1, 0.2)


def curve(threshold):
    """Of 100 answers 20 fail; of the 80 that are surest, four."""
    points = ((0.9, 0.5, 0.0, 0.04), (0.6, 0.8, 0.05, 0.1), (0.0, 1.0, 0.2, 0.25))
    return Abstention(
        curve=tuple(
            RiskPoint(threshold=at, coverage=covered, failure_rate=rate, failure_bound=bound)
            for at, covered, rate, bound in points
        ),
        max_failure_rate=0.1,
        confidence=0.95,
        threshold=threshold,
    )


def test_fewer_failures_answer_more_at_the_failure_rate_that_is_allowed():
    """Half as many failures: the bound of 0.1 is met where it was 0.2, two thirds of the way to all.

    Then 93.3 % are answered, 7.33 % wrong: 0.86 - 0.0733 + 0.2 x 0.0667 = 0.8, in place of
    0.76 - 0.04 + 0.2 x 0.2 = 0.76. Without failures all are answered right, for 1.
    """
    found = worth_of(GAIN, 50, Value(right=1.0, wrong=-1.0, deferred=0.2), curve(0.6), 100)
    assert astuple(found.money) == pytest.approx((50 * 0.0022222, 50 * 0.04, 50 * 0.24), rel=1e-4)
    # Wilson: 20 of 100 at 80 %.
    assert astuple(found.deferred.now) == pytest.approx((0.1535, 0.2, 0.2562), abs=1e-3)
    assert astuple(found.deferred.then) == pytest.approx((0, 0.0666667, 0.1555556), abs=1e-6)


def test_a_better_fallback_makes_labels_worth_less():
    """What is no longer deferred, 13.3 of 100, was worth 0.2 each, and is worth 0.9 with it."""
    cheap, dear = (
        worth_of(
            GAIN, 1, Value(right=1.0, wrong=-1.0, deferred=worth), curve(0.6), 100
        ).money.middle
        for worth in (0.2, 0.9)
    )
    assert cheap - dear == pytest.approx(0.7 * 0.1333333)
    assert dear < 0


def test_a_deferred_answer_that_costs_makes_labels_worth_more():
    found = worth_of(GAIN, 1, Value(right=1.0, wrong=-1.0, deferred=-0.4), curve(0.6), 100)
    assert found.money.middle == pytest.approx(0.04 + 0.6 * 0.1333333)


@pytest.mark.parametrize("found", [None, curve(None), curve(0.0)])
def test_where_nothing_is_deferred_it_is_the_gain_times_right_minus_wrong(found):
    value = Value(right=0.02, wrong=-0.1, deferred=7.0)
    assert worth_of(GAIN, 24, value, found, 100) == (
        Outlook(*(one * 24 * (0.02 + 0.1) for one in astuple(GAIN))),
        None,
    )


@pytest.mark.parametrize(
    ("value", "found"), [(Value(), curve(0.6)), (Value(right=1.0, wrong=1.0), None)]
)
def test_answers_that_are_all_worth_the_same_have_no_answer(value, found):
    assert worth_of(GAIN, 1, value, found, 100) is None


def test_all_that_is_missing_and_more_is_worth_no_more_than_no_failure():
    value = Value(right=1.0, wrong=-1.0)
    money = worth_of(Outlook(0.2, 0.2, 0.7), 1, value, curve(0.6), 100).money
    assert astuple(money) == pytest.approx((0.28, 0.28, 0.28))
