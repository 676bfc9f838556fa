from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.records import Verdict
from flywheel.testing import blank_challenge, blank_checkpoint, blank_decision, blank_report


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
        return blank_checkpoint(digest=digest, created_at=night(number))

    return build


@pytest.fixture
def report(night):
    """(id, night, **changes) -> a report."""

    def build(name, number, **changes):
        return blank_report(id=name, night=number, created_at=night(number), **changes)

    return build


@pytest.fixture
def decision(night):
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

    def build(number, generation=1, **changes):
        who = {"challenger_digest": "a", "champion_digest": "b", "opened_night": 3}
        return blank_challenge(generation=generation, number=number, **who, **changes)

    return build
