from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.ledger import Ledger
from flywheel.records import Checkpoint, Decision, Estimate, Report, Verdict


@pytest.fixture
def night():
    """Number -> the time of that night."""
    return lambda number: datetime(2030, 1, 1, 2, tzinfo=UTC) + timedelta(days=number)


@pytest.fixture
def connection(tmp_path):
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    with ledger.begin() as opened:
        yield opened
    ledger.close()


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
def report(night):
    """(id, night, candidate, champion, has_difference) -> a report."""

    def build(name, number, candidate="a", champion="b", *, has_difference=True):
        difference = Estimate(value=0.1, low=0.0, high=0.2, num_samples=50)
        return Report(
            id=name,
            night=number,
            metric="correct",
            higher_is_better=True,
            candidate_digest=candidate,
            champion_digest=champion,
            dataset_id="d",
            test_set_digest="t",
            entries=(),
            start_entries=(),
            difference=difference if has_difference else None,
            slices=(),
            latency_p95_ms=None,
            alpha=0.05,
            scores_digest="s",
            created_at=night(number),
        )

    return build


@pytest.fixture
def decision(night):
    """(id, night, report id, verdict) -> a decision."""

    def build(name, number, report_id, verdict=Verdict.HOLD):
        return Decision(
            id=name,
            night=number,
            report_id=report_id,
            verdict=verdict,
            reasons=("first", "second"),
            created_at=night(number),
        )

    return build
