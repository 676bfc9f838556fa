"""The nights so far as one table: at the terminal, in a notebook, in a CSV file.

A row a night, a column a fact; what is not known is missing, never 0.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import Connection

from flywheel.ledger.models import get_decision, report_of_night
from flywheel.ledger.nights import last_night
from flywheel.records import Estimate, Report
from flywheel.report.summaries import step_results

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
    champion_start and candidate_start on the held-out start data; verdict; reason, the one that
    decided; seconds, of all steps together.
    """
    last = last_night(connection)
    numbers = range(last.number + 1 if last else 0)
    frame = pd.DataFrame([_row(connection, number) for number in numbers])
    frame.index.name = "night"
    return frame.convert_dtypes()


def _row(connection: Connection, number: int) -> dict[str, Any]:
    steps = step_results(connection, number)
    report = report_of_night(connection, number)
    decision = get_decision(connection, number)
    row: dict[str, Any] = {
        column: sum(getattr(steps[step][0], field) for field in fields) if step in steps else None
        for column, (step, fields) in _FACTS.items()
    }
    for name in ("champion", "candidate"):
        test, start = _estimates(report, name)
        row[name] = test and test.value
        row[f"{name}_low"] = test and test.low
        row[f"{name}_high"] = test and test.high
        row[f"{name}_start"] = start and start.value
    row["verdict"] = decision and decision.verdict.value
    row["reason"] = decision and decision.reasons[0]
    row["seconds"] = sum(seconds for _, seconds in steps.values())
    return row


def _estimates(report: Report | None, name: str) -> tuple[Estimate | None, Estimate | None]:
    """On the frozen test set, and on the held-out start data."""
    if report is None:
        return None, None
    parts = (report.entries, report.start_entries)
    test, start = (
        next((entry.metric for entry in entries if entry.name == name), None) for entries in parts
    )
    return test, start
