"""The pages about the project as a whole: overview, annotators, releases, assess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from flywheel.annotate.cost import WINDOW
from flywheel.ledger.history import decisions_of, night_starts, reports_of
from flywheel.ledger.progress import count_reviews
from flywheel.ledger.releases import Handover
from flywheel.loop import Loop
from flywheel.records import Decision, Estimate, Release, Report
from flywheel.report.assess import Assessment, assess
from flywheel.report.kit.evidence import required_by
from flywheel.report.kit.tables import Sheet
from flywheel.report.labeling.facts import read_labeling, read_quality
from flywheel.report.labeling.page import labeling_values
from flywheel.report.overview.ahead import ahead_sheet, goals_sheet, steps_sheet
from flywheel.report.overview.archetype import archetype_sheet
from flywheel.report.overview.facts import (
    OverviewFacts,
    ReleaseFacts,
    read_overview,
    read_releases,
)
from flywheel.report.overview.sheets import (
    drift_sheet,
    fix_times_sheet,
    releases_sheet,
    saved_sheet,
    slices_sheet,
)
from flywheel.report.site.kept import Kept
from flywheel.report.site.night import NightPage, progress
from flywheel.report.status import Status, labeling_page, status

_NIGHTS = 15
_HANDOVERS = 20


class NightRow(NamedTuple):
    """A night in the list."""

    number: int
    decision: Decision | None
    candidate: Estimate | None
    difference: Estimate | None
    metric: str
    """where it is another one than that of the newest night; "": it is the same"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Everything that the overview shows."""

    status: Status
    running: NightPage | None
    """a night that has begun and not finished"""
    nights: tuple[NightRow, ...]
    """newest first"""
    older: int | None
    """where the next nights begin; None: there are no more"""
    num_nights: int
    report: Report | None
    """of the newest night with one"""
    required: float | None
    measured: Estimate | None
    """the metric of what serves; None: not enough data"""
    where: str
    """where it was measured: in production, or, while another model answered there too, on the test set"""
    standing: str
    """whether what serves is good enough, in a sentence"""
    labeling_page: str
    """where annotators work on what was sent last"""
    num_expert: int
    """samples that wait for the experts"""


def read_home(loop: Loop, before: int | None = None) -> Home:
    """Read the overview; of the nights those before one."""
    now = status(loop)
    with loop.ledger.read() as connection:
        starts = dict(night_starts(connection))
        numbers = list(starts)
        known = [number for number in numbers if before is None or number < before]
        shown = known[-_NIGHTS:]
        reports = {report.night: report for report in reports_of(connection, shown)}
        decisions = decisions_of(connection, shown)
        newest = reports_of(connection, numbers[-_NIGHTS:])[-1:]
        page = labeling_page(loop, connection)
        experts = count_reviews(connection).get("sent", 0)
    report = newest[0] if newest else None
    measured, where = _measured(report, now.release, starts)
    return Home(
        status=now,
        running=progress(loop),
        nights=tuple(
            _night(number, reports.get(number), decisions.get(number), report)
            for number in shown[::-1]
        ),
        older=shown[0] if len(known) > len(shown) else None,
        num_nights=len(numbers),
        report=report,
        required=required_by(report) if report else None,
        measured=measured,
        where=where,
        standing=_standing(report, measured),
        labeling_page=page,
        num_expert=experts,
    )


def _night(
    number: int, report: Report | None, decision: Decision | None, newest: Report | None
) -> NightRow:
    if report is None or newest is None:
        return NightRow(number, decision, None, None, "")
    metric = "" if report.metric_id == newest.metric_id else report.metric
    return NightRow(number, decision, _entry(report, "candidate"), report.difference, metric)


def _entry(report: Report, name: str) -> Estimate | None:
    return next((one.metric for one in report.entries if one.name == name), None)


def _measured(
    report: Report | None,
    release: Release | None,
    starts: Mapping[int, datetime],
) -> tuple[Estimate | None, str]:
    """Return the metric of what serves, and where it was measured.

    In production once all nights of the estimate came after its release; before that the estimate is
    also of answers by the model before, and the newest night's test set speaks of it alone.
    """
    if report is None:
        return None, "in production"
    estimate = report.production
    if release is None:
        return (estimate.estimate if estimate is not None else None), "in production"
    began = starts.get(estimate.first_night) if estimate is not None else None
    if estimate is not None and began is not None and release.created_at <= began:
        return estimate.estimate, "in production"
    names = {report.candidate_digest: "candidate", report.champion_digest: "champion"}
    name = names.get(release.checkpoint_digest)
    found = _entry(report, name) if name is not None else None
    return found, f"on the test set of night {report.night}"


def _standing(report: Report | None, measured: Estimate | None) -> str:
    """Say whether the metric of what serves reaches the requirement."""
    if report is None or measured is None:
        return "Not enough data: it is estimated from labels of the probability share."
    if (required := required_by(report)) is None:
        return "No requirement is set. Add metric.requirement to flywheel.toml."
    low, high = measured.low, measured.high
    if not report.higher_is_better:
        low, high, required = -high, -low, -required
    if low >= required:
        return "Good enough: the whole interval reaches the requirement."
    if high < required:
        return "Not good enough: the whole interval misses the requirement."
    return "Open: the requirement lies within the interval. More labels will settle it."


_RECENT = 600
"""newest annotations that the page of annotators rests on, unless all are asked for"""


def annotators(loop: Loop, kept: Kept, *, every: bool = False) -> Mapping[str, Any]:
    """Return what the page of annotators shows, from their newest answers or from all that a night weighs."""
    window = WINDOW if every else _RECENT

    def read() -> Mapping[str, Any]:
        return labeling_values(loop, read_labeling(loop, window), read_quality(loop, window))

    values, is_old = kept.get(f"annotators {window}", read)
    is_whole = every or values["facts"].whole.num_annotations < _RECENT
    return {**values, "is_whole": is_whole, "is_old": is_old}


def releases(loop: Loop) -> tuple[ReleaseFacts, tuple[Sheet, ...]]:
    """Return which model served when, how far it was handed over, how fast failures were fixed, drift."""
    with loop.ledger.read() as connection:
        facts = read_releases(loop, connection)
    is_handed_over = loop.project.is_external or facts.handovers
    handed_over = (_handover_sheet(facts),) if is_handed_over else ()
    sheets = (releases_sheet(facts), *handed_over, fix_times_sheet(facts), drift_sheet(facts))
    return facts, sheets


def _handover_sheet(facts: ReleaseFacts) -> Sheet:
    """Return how far each release has come with a server of the user's own; the newest first."""
    newest = [released.release for released in reversed(facts.releases)][:_HANDOVERS]
    known = [facts.handovers[one.number] for one in newest if one.number in facts.handovers]
    more = f"The newest {len(known)}. " if len(facts.handovers) > len(known) else ""
    return Sheet(
        key="handovers",
        title="Hand-over to your server",
        headings=(
            "release",
            "state",
            "announced",
            "verified since",
            "due",
            "tries since the last that succeeded",
            "fault of the last try",
            "artifact",
        ),
        values=(0, 5),
        rows=tuple(_handover_row(one, facts) for one in known),
        note=f"{more}Times are UTC. A release is verified once your server reports its digest, and overdue "
        "when it is due and not verified. Only the newest one is tried again."
        if known
        else "Nothing is handed over yet. This table will show how far each release has come.",
    )


def _handover_row(handover: Handover, facts: ReleaseFacts) -> tuple[str, ...]:
    state = handover.state(facts.written_at)
    if handover.release != facts.releases[-1].release.number:
        state = "verified, then replaced" if state == "verified" else "replaced before verified"
    at = (handover.announced_at, handover.verified_at, handover.due_at)
    announced, verified, due = ("not yet" if one is None else f"{one:%Y-%m-%d %H:%M}" for one in at)
    return (
        str(handover.release),
        state,
        announced,
        verified,
        due,
        f"{handover.tries:,}",
        handover.fault or "none",
        handover.address or "not written",
    )


def assessment(loop: Loop, kept: Kept) -> tuple[OverviewFacts, tuple[Sheet, ...], bool]:
    """Return what it still takes, what choosing the samples has brought, and whether it is being read anew."""

    def read() -> tuple[OverviewFacts, Assessment]:
        labeling = read_labeling(loop)
        return read_overview(loop, labeling), assess(loop, labeling.whole)

    (facts, assessed), is_old = kept.get("assessment", read)
    sheets = (
        goals_sheet(assessed),
        steps_sheet(assessed),
        ahead_sheet(assessed),
        archetype_sheet(loop.project, facts, assessed),
        saved_sheet(facts.saved),
        slices_sheet(facts),
    )
    return facts, sheets, is_old
