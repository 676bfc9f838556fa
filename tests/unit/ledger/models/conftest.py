from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.records import Challenge, Checkpoint, Verdict


@pytest.fixture
def night():
    """Number -> the time of that night."""
    return lambda number: datetime(2030, 1, 1, 2, tzinfo=UTC) + timedelta(days=number)


@pytest.fixture
def connection(ledger):
    with ledger.begin() as opened:
        yield opened


@pytest.fixture
def checkpoint(night):
    """(digest, night=0) -> its record."""

    def build(digest, number=0):
        return Checkpoint(
            digest=digest,
            parent_digest=None,
            dataset_id="d",
            seed=1,
            settings={"epochs": 3},
            device="cpu",
            losses=(1.0, 0.5),
            train_seconds=2.0,
            created_at=night(number),
        )

    return build


@pytest.fixture
def report(blank_report, night):
    """(id, night, **changes) -> a report."""

    def build(name, number, **changes):
        return blank_report(id=name, night=number, created_at=night(number), **changes)

    return build


@pytest.fixture
def decision(blank_decision, night):
    """(id, night, report id, verdict, **changes) -> a decision."""

    def build(name, number, report_id, verdict=Verdict.HOLD, **changes):
        return blank_decision(
            id=name,
            night=number,
            report_id=report_id,
            verdict=verdict,
            created_at=night(number),
            **changes,
        )

    return build


@pytest.fixture
def challenge():
    """(number, generation=1) -> a challenge that opened in night 3."""

    def build(number, generation=1):
        return Challenge(
            generation=generation,
            number=number,
            challenger_digest="a",
            champion_digest="b",
            alpha=0.01,
            opened_night=3,
        )

    return build
