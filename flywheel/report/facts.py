"""Everything that the report of a night shows, read from the ledger in one transaction.

Bounded however many nights and samples there are: at most 60 reports, 24 cases, 200 skips.
What is missing stays None. How it looks is the template's business.

Where a model comes from: the dataset versions behind it and the record of its training.

Bounded however long the line is. What the ledger does not hold is None, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from flywheel.errors import UnknownIdError
from flywheel.ledger.decisions import get_decision
from flywheel.ledger.failures import Case, count_failures, count_moved, failures_of_night
from flywheel.ledger.history import ancestry, decisions_of, get_night, reported_nights, reports_of
from flywheel.ledger.nights import skips_of
from flywheel.ledger.progress import (
    Agreement,
    AnnotatorCount,
    count_annotators,
    count_labeling,
    measure_agreement,
)
from flywheel.ledger.releases import current_release, get_checkpoint
from flywheel.ledger.reports import report_of_night, rescored_reports
from flywheel.loop import Loop
from flywheel.loop.steps import step_results
from flywheel.records import (
    Checkpoint,
    DatasetVersion,
    Decision,
    FailureState,
    Night,
    Release,
    Report,
)

_PARENTS = 6


def versions_of(connection: Connection, version_id: str | None) -> tuple[DatasetVersion, ...]:
    """A dataset version and its parents, newest first, six at most."""
    return () if version_id is None else tuple(ancestry(connection, version_id, _PARENTS))


def checkpoint_of(connection: Connection, digest: str | None) -> Checkpoint | None:
    """The record of a checkpoint; None for weights that were brought in by hand."""
    if digest is None:
        return None
    try:
        return get_checkpoint(connection, digest)
    except UnknownIdError:
        return None


_CASES = 24
_POINTS = 60
_RECENT = 10
_SKIPS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class NightFacts:
    """What the ledger holds about one night, and how things stand."""

    night: Night
    decision: Decision | None
    report: Report | None
    steps: dict[str, tuple[Any, float]]
    """result and seconds of each finished step"""
    past: tuple[Report, ...]
    """reports of the nights so far, thinned out evenly, oldest first; measured anew where they were"""
    num_reports: int
    """of all nights so far, before thinning"""
    recent: tuple[tuple[Report, Decision | None], ...]
    """the last ten nights with a report, newest first"""
    cases: tuple[Case, ...]
    """the night's strongest new failures"""
    moved: dict[FailureState, int]
    """failures that came to each state this night"""
    failures: dict[FailureState, int]
    labeling: dict[str, int]
    annotators: tuple[AnnotatorCount, ...]
    agreement: Agreement | None
    versions: tuple[DatasetVersion, ...]
    """the dataset version of the night and its parents, newest first"""
    checkpoint: Checkpoint | None
    """the candidate of the night"""
    release: Release | None
    """what serves when the page is written"""
    skips: tuple[tuple[str, str], ...]
    num_skips: int
    written_at: datetime


def read_facts(loop: Loop, number: int) -> NightFacts:
    """All facts of a night.

    Raises:
        UnknownIdError: there was no such night.
    """
    with loop.ledger.read() as connection:
        night = get_night(connection, number)
        report = report_of_night(connection, number)
        steps = step_results(connection, number)
        nights = reported_nights(connection, number)
        skips = skips_of(connection, number)
        return NightFacts(
            night=night,
            decision=get_decision(connection, number),
            report=report,
            steps=steps,
            past=comparable_reports(connection, report, thin_out(nights, _POINTS)),
            num_reports=len(nights),
            recent=_recent(connection, nights[-_RECENT:]),
            cases=tuple(failures_of_night(connection, number, FailureState.SEEN, _CASES)),
            moved=count_moved(connection, number),
            failures=count_failures(connection),
            labeling=count_labeling(connection),
            annotators=tuple(count_annotators(connection)),
            agreement=measure_agreement(connection),
            versions=versions_of(connection, _version_id(report, steps)),
            checkpoint=checkpoint_of(connection, _candidate(report, steps)),
            release=current_release(connection),
            skips=tuple(skips[:_SKIPS]),
            num_skips=len(skips),
            written_at=loop.now(),
        )


def thin_out(numbers: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the numbers, evenly over them, the first and the last one among them."""
    if len(numbers) <= limit:
        return list(numbers)
    last = len(numbers) - 1
    return [numbers[round(index * last / (limit - 1))] for index in range(limit)]


def comparable_reports(
    connection: Connection, report: Report | None, numbers: Sequence[int]
) -> tuple[Report, ...]:
    """The reports of these nights; those that were measured anew, under the report's metric."""
    originals = reports_of(connection, numbers)
    if report is None or all(one.metric_id == report.metric_id for one in originals):
        return tuple(originals)
    anew = rescored_reports(connection, report.metric_id)
    return tuple(
        one if one.metric_id == report.metric_id else anew.get(one.night, one) for one in originals
    )


def _recent(
    connection: Connection, numbers: Sequence[int]
) -> tuple[tuple[Report, Decision | None], ...]:
    reports = reports_of(connection, numbers)
    decisions = decisions_of(connection, numbers)
    return tuple((report, decisions.get(report.night)) for report in reversed(reports))


def _version_id(report: Report | None, steps: dict[str, tuple[Any, float]]) -> str | None:
    if report is not None:
        return report.dataset_id
    return steps["ingest"][0].dataset_id if "ingest" in steps else None


def _candidate(report: Report | None, steps: dict[str, tuple[Any, float]]) -> str | None:
    if report is not None and report.candidate_digest is not None:
        return report.candidate_digest
    return steps["retrain"][0].candidate_digest if "retrain" in steps else None
