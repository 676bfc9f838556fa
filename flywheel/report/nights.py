"""The nights so far as one table: at the terminal, in a notebook, in a CSV file.

A row a night, a column a fact; what is not known is missing, never 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from flywheel.ledger.decisions import get_decision
from flywheel.ledger.nights import last_night
from flywheel.ledger.reports import report_of_night, rescored_reports
from flywheel.loop.steps import step_results
from flywheel.records import Estimate, Report

_FACTS = {
    "failures": ("collect", ("num_failures",)),
    "routed": ("route", ("num_probability", "num_targeted")),
    "labels": ("ingest", ("num_labels",)),
    "train": ("ingest", ("num_train",)),
    "test": ("ingest", ("num_test",)),
}
"""column -> the step and the numbers of its result that add up to it"""


def nights_frame(connection: Connection) -> pd.DataFrame:
    """All nights, indexed by number.

    Columns: failures (new), routed, labels (new or changed), train, test (rows of the dataset
    version); champion and candidate on the frozen test set, each with _low and _high;
    champion_start and candidate_start on the held-out start data; metric, the formula of these;
    production with _low and _high, the estimate of the night; verdict; reason, the one that
    decided; e_value; seconds, of all steps together.

    After a change of the metric, nights that were measured anew are told under the newest one;
    the others keep theirs, and `metric` tells them apart.
    """
    last = last_night(connection)
    numbers = range(last.number + 1 if last else 0)
    reports = _reports(connection, numbers)
    names = _metric_names([report for report in reports.values() if report is not None])
    rows = [_row(connection, number, reports[number]) for number in numbers]
    for number, row in zip(numbers, rows, strict=True):
        report = reports[number]
        row["metric"] = report and names[report.metric, report.metric_id]
    frame = pd.DataFrame(rows)
    frame.index.name = "night"
    return frame.convert_dtypes()


def _reports(connection: Connection, numbers: Sequence[int]) -> dict[int, Report | None]:
    """The report of each night, under the newest metric where it was measured anew."""
    found = {number: report_of_night(connection, number) for number in numbers}
    known = [report for report in found.values() if report is not None]
    if all(report.metric_id == known[-1].metric_id for report in known):
        return found
    anew = rescored_reports(connection, known[-1].metric_id)
    return {
        number: report
        if report is None or report.metric_id == known[-1].metric_id
        else anew.get(number, report)
        for number, report in found.items()
    }


def _metric_names(reports: Sequence[Report]) -> dict[tuple[str, str], str]:
    """Formula and id -> the formula; with the id when several metrics are written alike."""
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
    """On the frozen test set, and on the held-out start data."""
    if report is None:
        return None, None
    parts = (report.entries, report.start_entries)
    test, start = (
        next((entry.metric for entry in entries if entry.name == name), None) for entries in parts
    )
    return test, start
