"""Reads everything that the report of a night shows, from the ledger in one transaction.

The cost is bounded however many nights and samples there are: at most 60 reports, 24 cases, 200
skips, 6 ancestors of a dataset version. What the ledger does not have is None, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from flywheel.errors import UnknownIdError
from flywheel.ledger.failures import Case, count_failures, count_moved, failures_of_night
from flywheel.ledger.history import ancestry, decisions_of, get_night, reported_nights, reports_of
from flywheel.ledger.judged import get_decision, report_of_night, rescored_reports
from flywheel.ledger.nights import skips_of
from flywheel.ledger.progress import (
    Agreement,
    AnnotatorCount,
    count_annotators,
    count_labeling,
    measure_agreement,
)
from flywheel.ledger.releases import current_release, get_checkpoint
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
_CASES, _SHIFTED, _LOOKED_AT = 24, 6, 500


def _cases(connection: Connection, night: int) -> tuple[Case, ...]:
    found = failures_of_night(connection, night, FailureState.SEEN, _LOOKED_AT)
    moved = [one for one in found if any(signal.name == "shift" for signal in one.signals)]
    first = moved[:_SHIFTED]
    return (*first, *(one for one in found if one not in first))[:_CASES]


def versions_of(connection: Connection, version_id: str | None) -> tuple[DatasetVersion, ...]:
    """Return a dataset version and its ancestors, newest first, six at most."""
    return () if version_id is None else tuple(ancestry(connection, version_id, _PARENTS))


def checkpoint_of(connection: Connection, digest: str | None) -> Checkpoint | None:
    """Return the training record of a checkpoint; None for weights that were imported by hand."""
    if digest is None:
        return None
    try:
        return get_checkpoint(connection, digest)
    except UnknownIdError:
        return None


_POINTS = 60
_RECENT = 10
_SKIPS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class NightFacts:
    """What the ledger has about one night, and the state of the project when the page is written."""

    night: Night
    decision: Decision | None
    report: Report | None
    steps: dict[str, tuple[Any, float]]
    """result and seconds of each finished step"""
    past: tuple[Report, ...]
    """reports up to this night, evenly thinned out, oldest first; rescored ones where they exist"""
    num_reports: int
    """up to this night, before thinning out"""
    recent: tuple[tuple[Report, Decision | None], ...]
    """the last ten nights with a report, newest first"""
    cases: tuple[Case, ...]
    """the night's strongest new failures, six of a shift first"""
    moved: dict[FailureState, int]
    """state -> failures that reached it this night"""
    failures: dict[FailureState, int]
    labeling: dict[str, int]
    annotators: tuple[AnnotatorCount, ...]
    agreement: Agreement | None
    versions: tuple[DatasetVersion, ...]
    """the dataset version of the night and its parents, newest first"""
    checkpoint: Checkpoint | None
    """the candidate of the night"""
    release: Release | None
    """in production when the page is written"""
    skips: tuple[tuple[str, str], ...]
    num_skips: int
    written_at: datetime


def read_facts(loop: Loop, number: int) -> NightFacts:
    """Read the facts of a night.

    Raises:
        UnknownIdError: there is no such night.
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
            cases=_cases(connection, number),
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
    """Return at most `limit` of the numbers, evenly spaced, including the first and the last."""
    if len(numbers) <= limit:
        return list(numbers)
    last = len(numbers) - 1
    return [numbers[round(index * last / (limit - 1))] for index in range(limit)]


def comparable_reports(
    connection: Connection, report: Report | None, numbers: Sequence[int]
) -> tuple[Report, ...]:
    """Return the reports of these nights, rescored under the report's metric where that exists."""
    originals = reports_of(connection, numbers)
    if report is None or all(original.metric_id == report.metric_id for original in originals):
        return tuple(originals)
    rescored = rescored_reports(connection, report.metric_id)
    return tuple(
        original
        if original.metric_id == report.metric_id
        else rescored.get(original.night, original)
        for original in originals
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
