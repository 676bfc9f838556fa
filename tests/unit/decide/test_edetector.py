"""The e-detector: rarely a false alarm, soon a true one, and none before there is a reference."""

import numpy as np
import pytest

from flywheel.metrics.eprocess import FEWEST, rate_bound, watch
from flywheel.records import Watch

NEW = Watch(name="rain", num_reference=200, num_reference_failed=20)


def nights(rng, rate, number, before=NEW, each=50):
    """A night after another."""
    for _ in range(number):
        before = watch(before, (rng.random(each) < rate).tolist(), 200)
        yield before


def test_the_first_outcomes_are_the_reference_and_bet_on_nothing():
    first = watch(Watch(name=""), [True] * 9 + [False] * 101, 200)
    second = watch(first, [False] * 110, 200)
    assert (second.num_reference, second.num_reference_failed) == (220, 9)
    assert (first.stakes, second.stakes, second.is_alarm) == ((), (), False)
    assert watch(second, [False], 200).num_reference == 220 >= FEWEST


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.15])
def test_without_a_change_a_false_alarm_comes_no_more_often_than_is_allowed(rate):
    rng = np.random.default_rng(0)
    alarms = sum(one.is_alarm for _ in range(20) for one in nights(rng, rate, 100))
    assert alarms <= 2000 / 200


@pytest.mark.parametrize(("rate", "most"), [(0.3, 6), (0.5, 3)])
def test_more_failures_are_noticed_in_a_few_nights(rate, most):
    rng = np.random.default_rng(0)
    waits = [
        next(night for night, one in enumerate(nights(rng, rate, 60), start=1) if one.is_alarm)
        for _ in range(20)
    ]
    assert np.median(waits) <= most


def test_after_an_alarm_it_begins_anew():
    loud = watch(NEW, [True] * 40, 200)
    assert loud.is_alarm
    calm = watch(loud, [False] * 40, 200)
    assert not calm.is_alarm
    assert max(calm.stakes) < 1


def test_a_night_without_outcomes_changes_nothing_but_the_counts():
    before = watch(NEW, [True, False], 200)
    assert watch(before, [], 200).stakes == before.stakes


def test_the_reference_is_taken_for_no_better_than_it_may_be():
    assert 0.1 < rate_bound(NEW) < 0.17
    assert rate_bound(Watch(name="", num_reference=200, num_reference_failed=200)) == 1
    always = Watch(name="", num_reference=200, num_reference_failed=200)
    assert not watch(always, [True] * 50, 200).is_alarm
