from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flywheel.decide import decide
from flywheel.records import (
    Entry,
    Estimate,
    FreshOutcomes,
    Guarded,
    Reuse,
    SliceComparison,
    Watched,
)
from flywheel.settings.judging import Gate, Metric
from flywheel.testing import blank_challenge, blank_report

_NIGHT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def number():
    """(value, low, high, num_samples=100) -> estimate."""

    def build(value, low, high, num_samples=100):
        return Estimate(value=value, low=low, high=high, num_samples=num_samples)

    return build


@pytest.fixture
def entry(number):
    """(name, value, kind=name, half width) -> a line of the table; value None: not measured."""

    def build(name, value, *, kind=None, half=0.01, num_samples=100):
        metric = None if value is None else number(value, value - half, value + half, num_samples)
        return Entry(name=name, kind=kind or name, metric=metric)

    return build


@pytest.fixture
def outcomes():
    """(wins, losses, ties=0) -> fresh outcomes in turn: a win for every loss, then the rest."""

    def build(wins, losses, ties=0, *, is_bounded=True):
        even = min(wins, losses)
        gains = [1.0, -1.0] * even + [1.0] * (wins - even) + [-1.0] * (losses - even)
        gains += [0.0] * ties
        return FreshOutcomes(
            gains=tuple(gains),
            scales=(1.0,) * len(gains),
            is_bounded=is_bounded,
            num_new=len(gains),
        )

    return build


@pytest.fixture
def challenge():
    """The first challenge of a test set, which needs an e-value of 50."""
    return blank_challenge(alpha=0.02, opened_night=3)


@pytest.fixture
def report(number, entry, outcomes, challenge):
    """A report on a candidate that wins 20 of 20 fresh labels, with what is to differ."""

    def build(**changes):
        fields = {
            "entries": (entry("candidate", 0.9), entry("champion", 0.8)),
            "start_entries": (
                entry("candidate", 0.95),
                entry("majority", 0.2, kind="scripted"),
            ),
            "difference": number(0.1, 0.02, 0.18),
            "challenge": challenge,
            "fresh": outcomes(20, 0, 40),
            "reuse": Reuse(
                num_test=60, num_sealed=0, mean_uses=1.0, num_challenges=1, most_challenges=10
            ),
        }
        return blank_report(**(fields | changes))

    return build


@pytest.fixture
def judge(report):
    """Decide on a report with changes; metric and gate settings as dictionaries."""

    def run(metric=None, gate=None, **changes):
        settings = Metric(**(metric or {}))
        measured = {"metric_settings": settings.model_dump(mode="json")} | changes
        return decide(report(**measured), settings, Gate(**(gate or {})), now=_NIGHT)

    return run


@pytest.fixture
def worse_slice(number):
    """(high, name) -> a slice whose gain is at most `high`."""

    def build(high, name="phone"):
        difference = number(high - 0.1, high - 0.2, high)
        return SliceComparison(name=name, difference=difference, num_samples=100)

    return build


@pytest.fixture
def watched(number):
    """(candidate low..high, champion low..high) -> the requirement error_cm.p90 < 1."""

    def build(candidate, champion=(0.1, 0.2), gain=(-0.1, 0.1), **changes):
        def between(bounds):
            return None if bounds is None else number(sum(bounds) / 2, *bounds)

        fields = {
            "formula": "error_cm.p90",
            "bound": 1.0,
            "is_upper": True,
            "candidate": between(candidate),
            "champion": between(champion),
            "difference": between(gain),
        }
        return Watched(**(fields | changes))

    return build


@pytest.fixture
def guarded():
    """(kept by both, lost) -> guarded failures."""

    def build(kept, lost):
        return Guarded(
            num_cases=kept + lost,
            num_kept=kept,
            num_kept_by_champion=kept + lost,
            num_lost=lost,
            lost=tuple(f"case-{index}" for index in range(min(lost, 20))),
        )

    return build
