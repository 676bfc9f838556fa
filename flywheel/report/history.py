"""The history of the single metric and of releases: a chart over the nights, and all as one table.

Only nights of the same metric share an axis. In the table (terminal, notebook, CSV file) a row is
a night; what is not known is missing, never 0. Nothing is measured here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from flywheel.ledger.judged import get_decision, report_of_night, rescored_reports
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import release_history
from flywheel.loop.steps import step_results
from flywheel.records import Entry, Estimate, Release, Report
from flywheel.report.kit.charts import Line, history_chart, history_picture
from flywheel.report.kit.evidence import label_of, required_by

if TYPE_CHECKING:
    import pandas as pd

_NOT_OVER_TIME = ("requirement", "published")
_PLACES = {"entries": "the frozen test set", "start_entries": "the start data"}


def draw_history(
    report: Report, past: Sequence[Report], releases: Sequence[int] = ()
) -> dict[str, str]:
    """Return inline SVG of entries_history and start_entries_history, where there are lines.

    Args:
        report: of the newest night; other nights are drawn if they have its metric.
        past: the reports of the nights, oldest first.
        releases: nights that ended with another model in production.
    """
    return {
        f"{part}_history": history_chart(
            lines,
            required_by(report),
            label_of(report),
            f"{report.metric} over the nights on {place}",
            releases,
        )
        for part, place in _PLACES.items()
        if (lines := _lines(report, past, part))
    }


def history_png(report: Report, past: Sequence[Report]) -> tuple[str, bytes] | None:
    """Return title and PNG of the first of these charts; None without lines."""
    for part, place in _PLACES.items():
        lines = _lines(report, past, part)
        if lines:
            shown = history_picture(lines, required_by(report), label_of(report))
            return f"{report.metric} over the nights on {place}", shown
    return None


def _lines(report: Report, past: Sequence[Report], part: str) -> list[Line]:
    """Return a line for each model and baseline; none if each was measured only once."""
    points: dict[str, list[tuple[int, Estimate]]] = {}
    for earlier in past:
        entries: Sequence[Entry] = (
            getattr(earlier, part) if _is_same_metric(earlier, report) else ()
        )
        for entry in entries:
            if entry.metric is not None and entry.kind not in _NOT_OVER_TIME:
                points.setdefault(entry.name, []).append((earlier.night, entry.metric))
    if all(len(found) < 2 for found in points.values()):
        return []
    return [Line(name=name, points=tuple(found)) for name, found in points.items()]


def _is_same_metric(report: Report, other: Report) -> bool:
    """Compare by metric id; reports older than metric ids compare by formula alone."""
    is_known = bool(report.metric_id and other.metric_id)
    return report.metric == other.metric and (not is_known or report.metric_id == other.metric_id)


_FACTS = {
    "failures": ("collect", ("num_failures",)),
    "routed": ("route", ("num_probability", "num_targeted")),
    "labels": ("ingest", ("num_labels",)),
    "train": ("ingest", ("num_train",)),
    "test": ("ingest", ("num_test",)),
}
"""column -> step, and the fields of its result that add up to the column"""


def nights_frame(connection: Connection) -> pd.DataFrame:
    """Return all nights, indexed by number.

    Columns: failures (new), routed, labels (new or changed), train, test (rows of the dataset
    version); champion and candidate on the frozen test set, each with _low and _high;
    champion_start and candidate_start on the held-out start data; metric, the formula of these;
    production with _low and _high, the estimate of the night; verdict; reason, the deciding one;
    e_value; seconds, of all steps together.

    After a change of the metric, rescored nights are shown under the newest one; the others keep
    theirs, as `metric` shows.
    """
    import pandas as pd  # noqa: PLC0415 - a second with pyarrow, and a night needs none

    last = last_night(connection)
    numbers = range(1, last.number + 1 if last else 1)
    reports = _reports(connection, numbers)
    names = _metric_names([report for report in reports.values() if report is not None])
    rows = [_row(connection, number, reports[number]) for number in numbers]
    for number, row in zip(numbers, rows, strict=True):
        report = reports[number]
        row["metric"] = report and names[report.metric, report.metric_id]
    return pd.DataFrame(rows, index=pd.Index(numbers, name="night")).convert_dtypes()


def _reports(connection: Connection, numbers: Sequence[int]) -> dict[int, Report | None]:
    """Return the report of each night, rescored under the newest metric where that exists."""
    found = {number: report_of_night(connection, number) for number in numbers}
    known = [report for report in found.values() if report is not None]
    if all(report.metric_id == known[-1].metric_id for report in known):
        return found
    rescored = rescored_reports(connection, known[-1].metric_id)
    return {
        number: report
        if report is None or report.metric_id == known[-1].metric_id
        else rescored.get(number, report)
        for number, report in found.items()
    }


def _metric_names(reports: Sequence[Report]) -> dict[tuple[str, str], str]:
    """Map formula and id to the formula, with the id when several metrics share a formula."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for report in reports:
        ids[report.metric].add(report.metric_id)
    return {
        (formula, key): formula if len(known) == 1 or not key else f"{formula} ({key[:6]})"
        for formula, known in ids.items()
        for key in known
    }


def _row(connection: Connection, number: int, report: Report | None) -> dict[str, Any]:
    steps = step_results(connection, number)
    decision = get_decision(connection, number)
    row: dict[str, Any] = {
        column: sum(getattr(steps[step][0], field) for field in fields) if step in steps else None
        for column, (step, fields) in _FACTS.items()
    }
    for name in ("champion", "candidate"):
        test, start = _estimates(report, name)
        row |= _columns(name, test)
        row[f"{name}_start"] = start and start.value
    row["metric"] = None
    production = report.production if report is not None else None
    row |= _columns("production", None if production is None else production.estimate)
    row["verdict"] = decision and decision.verdict.value
    row["reason"] = decision and decision.reasons[0]
    row["e_value"] = decision and decision.e_value
    row["seconds"] = sum(seconds for _, seconds in steps.values())
    return row


def _columns(name: str, known: Estimate | None) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    values = (None,) * 3 if known is None else (known.value, known.low, known.high)
    return dict(zip(names, values, strict=True))


def _estimates(report: Report | None, name: str) -> tuple[Estimate | None, Estimate | None]:
    """Return the metric on the frozen test set and on the held-out start data."""
    if report is None:
        return None, None
    parts = (report.entries, report.start_entries)
    test, start = (
        next((entry.metric for entry in entries if entry.name == name), None) for entries in parts
    )
    return test, start


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A release and the night it belongs to."""

    release: Release
    night: int | None
    """during or after which it was made; None: before the first night"""
    is_roll_back: bool
    """whether the model had been in production before"""


def read_released(
    connection: Connection, nights: Sequence[tuple[int, datetime]]
) -> tuple[Released, ...]:
    """Return every release with its night, oldest first; `nights` are number and start, oldest first."""
    found, known = [], set[str]()
    starts = [start for _, start in nights]
    for release in release_history(connection):
        place = bisect_right(starts, release.created_at) - 1
        found.append(
            Released(
                release=release,
                night=nights[place][0] if place >= 0 else None,
                is_roll_back=release.checkpoint_digest in known,
            )
        )
        known.add(release.checkpoint_digest)
    return tuple(found)
