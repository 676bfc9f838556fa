from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flywheel.decide import decide
from flywheel.project import Gate, Metric
from flywheel.records import Entry, Estimate, Report, SliceComparison

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
def report(number, entry):
    """A report on a candidate that is better, with what is to differ."""

    def build(**changes):
        fields = {
            "id": "r" * 64,
            "night": 3,
            "metric": "correct",
            "higher_is_better": True,
            "candidate_digest": "a",
            "champion_digest": "b",
            "dataset_id": "d",
            "test_set_digest": "t",
            "entries": (entry("candidate", 0.9), entry("champion", 0.8)),
            "start_entries": (
                entry("candidate", 0.95),
                entry("majority", 0.2, kind="scripted"),
            ),
            "difference": number(0.1, 0.02, 0.18),
            "slices": (),
            "latency_p95_ms": 5.0,
            "alpha": 0.05,
            "scores_digest": "s",
            "created_at": _NIGHT,
        }
        return Report(**(fields | changes))

    return build


@pytest.fixture
def judge(report):
    """Decide on a report with changes; metric and gate settings as dictionaries."""

    def run(metric=None, gate=None, **changes):
        settings = Metric(**(metric or {})), Gate(**(gate or {}))
        return decide(report(**changes), *settings, now=_NIGHT)

    return run


@pytest.fixture
def worse_slice():
    """(high, name) -> a slice whose gain is at most `high`."""

    def build(high, name="phone"):
        difference = Estimate(value=high - 0.1, low=high - 0.2, high=high, num_samples=40)
        return SliceComparison(name=name, difference=difference, num_samples=40)

    return build
