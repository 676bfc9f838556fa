"""Records as lines and tables for a terminal. Decides nothing and reads no clock."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flywheel.ledger import Ledger
from flywheel.ledger.models import get_decision, report_of_night
from flywheel.ledger.nights import last_night
from flywheel.project import Project
from flywheel.records import Decision, Estimate, Report
from flywheel.report import Event, Status, step_results


def print_status(status: Status, console: Console) -> None:
    """What serves, what waits for whom, what to do next."""
    for line in status.lines():
        console.print(escape(line), highlight=False, soft_wrap=True)


def print_trace(events: list[Event], console: Console) -> None:
    """A sample's life, one line an event, in time order."""
    table = Table(box=None, pad_edge=False)
    for heading in ("when (UTC)", "what", "detail"):
        table.add_column(heading, overflow="fold")
    for event in events:
        table.add_row(f"{event.at:%Y-%m-%d %H:%M:%S}", event.what, escape(event.detail))
    console.print(table)


def night_table(project: Project) -> Table:
    """The nights so far: failures seen, samples routed, labels back, the metric, the decision."""
    table = Table(
        title=f"{project.name}: the nights so far",
        title_justify="left",
        box=None,
        padding=(0, 1, 1, 0),
        pad_edge=False,
    )
    for heading in ("night", "seen", "routed", "labels"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("champion", "candidate"):
        table.add_column(heading, no_wrap=True)
    table.add_column("decision, and because")
    ledger = Ledger.open(project.ledger_url)
    with ledger.read() as connection:
        last = last_night(connection)
        for number in range(last.number + 1 if last else 0):
            done = {name: result for name, (result, _) in step_results(connection, number).items()}
            report = report_of_night(connection, number)
            decision = get_decision(connection, number)
            table.add_row(
                str(number),
                _number(done, "collect", "num_failures"),
                _number(done, "route", "num_probability", "num_targeted"),
                _number(done, "ingest", "num_labels"),
                _metric(report, "champion"),
                _metric(report, "candidate"),
                _because(decision),
            )
    ledger.close()
    return table


def _because(decision: Decision | None) -> str:
    return (
        "—" if decision is None else f"[bold]{decision.verdict}[/]\n{escape(decision.reasons[0])}"
    )


def _number(done: dict[str, Any], step: str, *fields: str) -> str:
    return str(sum(getattr(done[step], field) for field in fields)) if step in done else "—"


def _metric(report: Report | None, name: str) -> str:
    """On the frozen test set; before it has samples, on the held-out start data, and says so."""
    if report is None:
        return "—"
    for entries, mark in ((report.entries, ""), (report.start_entries, "\nat start")):
        for entry in entries:
            if entry.name == name and entry.metric is not None:
                return _estimate(entry.metric) + mark
    return "—"


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}\n{estimate.low:.2f}..{estimate.high:.2f}"
