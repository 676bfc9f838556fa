"""The time from a failure to its fix: what still waits counts, and too little is said to be that."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.ledger.history import Wait
from flywheel.report.overview.facts import fix_times

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def wait(days, *, fixed=True):
    since = NOW - timedelta(days=days)
    return Wait(since, NOW if fixed else None)


def test_without_censoring_it_is_the_empirical_distribution():
    found = fix_times([wait(days) for days in range(1, 10)], NOW)
    assert found.median == 5
    assert found.after(3).value == pytest.approx(3 / 9)
    assert found.after(3).low < 3 / 9 < found.after(3).high


def test_failures_that_still_wait_make_fixing_slower_not_quicker():
    fixed = [wait(days) for days in range(1, 10)]
    found = fix_times([*fixed, *(wait(30, fixed=False) for _ in range(6))], NOW)
    assert found.median == 8
    assert (found.num_failures, found.num_fixed) == (15, 9)


def test_a_median_that_is_not_reached_is_none():
    found = fix_times([wait(1)] * 5 + [wait(9, fixed=False)] * 20, NOW)
    assert found.median is None
    assert found.after(9).value == pytest.approx(0.2)
    assert found.after(10) is None  # nobody has waited so long


def test_it_is_the_estimate_of_the_definition():
    rng = np.random.default_rng(0)
    days, is_fixed = rng.integers(1, 12, 80), rng.random(80) < 0.6
    found = fix_times(
        [wait(int(d), fixed=bool(f)) for d, f in zip(days, is_fixed, strict=True)], NOW
    )
    left = 1.0
    for day in range(1, 7):
        left *= 1 - ((days == day) & is_fixed).sum() / (days >= day).sum()
    assert found.after(6).value == pytest.approx(1 - left)


def test_intervals_cover_as_often_as_they_say():
    """Exponential waits of 5 days, looked at on day 8: the share after 4 days is 1 - exp(-0.8)."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        days = rng.exponential(5, 60)
        waits = [wait(min(d, 8), fixed=bool(d <= 8)) for d in days]
        share = fix_times(waits, NOW).after(4)
        hits += share.low <= 1 - np.exp(-0.8) <= share.high
    assert hits >= 184


def test_before_the_first_fix_the_interval_is_what_the_number_that_waits_allows():
    found = fix_times([wait(1, fixed=False)] * 30 + [wait(5)] * 10, NOW)
    assert found.after(2).value == 0
    assert 0 < found.after(2).high < 0.2


@pytest.mark.parametrize("waits", [[], [wait(1)] * 4, [wait(1, fixed=False)] * 50])
def test_too_few_fixes_say_nothing(waits):
    assert fix_times(waits, NOW) is None
