"""Formats records as lines and tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table

from flywheel.cli.terminal import Terminal
from flywheel.evaluate import Advice
from flywheel.loop import Loop
from flywheel.loop.replay import ChallengePlan, Rescored
from flywheel.project import Project
from flywheel.records import Estimate, Report
from flywheel.report import Event, Status
from flywheel.report.kit.tables import Sheet
from flywheel.report.labeling.facts import read_labeling, read_quality
from flywheel.report.labeling.page import annotator_frame, flags, next_steps
from flywheel.report.labeling.sheets import annotator_sheets, budget_sheet, cost_sheets, queue_sheet

if TYPE_CHECKING:
    import pandas as pd


_AT_START = "at start: on the held-out start data, until the test set has samples of production"


def print_status(status: Status, console: Terminal) -> None:
    """Print the status of a project."""
    for line in status.lines():
        console.say(line)


def print_trace(events: list[Event], console: Terminal) -> None:
    """Print the life of a sample, one line per event, in time order."""
    table = Table(box=None, pad_edge=False)
    for heading in ("when (UTC)", "what", "detail"):
        table.add_column(heading, overflow="fold")
    for event in events:
        table.add_row(f"{event.at:%Y-%m-%d %H:%M:%S}", event.what, escape(event.detail))
    console.print(table)


def night_table(project: Project, nights: pd.DataFrame) -> Table:
    """Return all nights: failures seen, samples routed, labels, the metric, the decision."""
    better = "higher" if project.metric.higher_is_better else "lower"
    table = Table(
        title=f"{project.name}: {project.metric.optimize} ({better} is better), all nights",
        title_justify="left",
        caption=_AT_START if _has_start(nights) else None,
        caption_justify="left",
        box=None,
        padding=(0, 1, 1, 0),
        pad_edge=False,
    )
    for heading in ("night", "seen", "routed", "labels"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("champion", "candidate"):
        table.add_column(heading, no_wrap=True)
    table.add_column("decision and reason")
    for number, night in nights.iterrows():
        table.add_row(
            str(number),
            *(_number(night[column]) for column in ("failures", "routed", "labels")),
            *(_metric(night, column) for column in ("champion", "candidate")),
            "—"
            if _is_missing(night.verdict)
            else f"[bold]{night.verdict}[/]\n{escape(night.reason)}",
        )
    return table


def advice_table(advice: Sequence[Advice]) -> Table:
    """Return every number with its bound, distance, sensitivity and advice."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    headings = (
        "number",
        "now",
        "bound",
        "distance to it",
        "sensitivity to the model",
        "best baseline",
        "advice and reason",
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", ratio=3 if heading == headings[-1] else 2)
    table.expand = True
    for advised in advice:
        sign = "<" if advised.lower_is_better else ">"
        table.add_row(
            escape(advised.formula),
            _interval(advised.value),
            "—" if advised.bound is None else f"{sign} {advised.bound:g}",
            "—" if advised.distance is None else f"{max(advised.distance, 0.0):.0%}",
            "—" if advised.sensitivity is None else f"{advised.sensitivity:.1f} half intervals",
            "—"
            if advised.best_baseline is None
            else f"{advised.best_baseline[1]:.3g}\n{advised.best_baseline[0]}",
            f"[bold]{advised.advice}[/]\n{escape(advised.reason)}",
        )
    return table


def plan_table(plan: ChallengePlan) -> Table:
    """Return the labels and nights needed for each gain."""
    leans = ", drawn where the two differ once it is open" if plan.leans else ""
    caption = (
        f"challenge {plan.number} of this test set, alpha {plan.alpha:.3g}; the models differ on "
        f"{plan.discordance:.0%} of the samples, {plan.discordance_from}; power 4 in 5{leans}"
    )
    table = Table(caption=caption, caption_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("true gain", justify="right")
    table.add_column("fresh labels", justify="right")
    table.add_column(f"nights at {plan.labels_per_night:g} labels", justify="right")
    for row in plan.rows:
        known = row.num_labels is not None
        table.add_row(
            f"{row.gain:.0%}",
            f"{row.num_labels:,}" if known else "over 20,000",
            f"{row.nights:,}" if known else "—",
        )
    return table


def rescored_table(nights: Sequence[Rescored], formula: str) -> Table:
    """Return every night under its own formula and under the current one."""
    table = Table(
        title=f"the history under {escape(formula)}; other decisions are marked",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for heading in ("night", "metric then", "then", "now", "decision", "would be"):
        table.add_column(heading)
    for night in nights:
        decided = night.decided.verdict.value if night.decided else "—"
        would = night.would_decide.verdict.value if night.would_decide else "—"
        table.add_row(
            str(night.before.night),
            escape(night.before.metric),
            _judged(night.before),
            escape(night.fault) if night.after is None else _judged(night.after),
            decided,
            f"[bold]{would} *[/]" if night.differs else would,
        )
    return table


def _judged(report: Report) -> str:
    """Return the metric of the candidate, else of the champion."""
    for name in ("candidate", "champion"):
        for entry in (*report.entries, *report.start_entries):
            if entry.name == name and entry.metric is not None:
                return f"{name} {_interval(entry.metric)}"
    return "—"


def _interval(number: Estimate | None) -> str:
    return "—" if number is None else f"{number.value:.3g} \\[{number.low:.3g}, {number.high:.3g}]"


def _has_start(nights: pd.DataFrame) -> bool:
    """Whether the table shows a number of the held-out start data."""
    return any(
        (nights[name].isna() & nights[f"{name}_start"].notna()).any()
        for name in ("champion", "candidate")
    )


def _is_missing(value: Any) -> bool:
    import pandas as pd  # a second with pyarrow, and few commands print a table of nights

    return bool(pd.isna(value))


def _number(value: Any) -> str:
    return "—" if _is_missing(value) else str(value)


def _metric(night: Any, name: str) -> str:
    """Return the metric on the frozen test set or, until that has samples, on the start data."""
    if not _is_missing(night[name]):
        return f"{night[name]:.3f}\n{night[f'{name}_low']:.2f}..{night[f'{name}_high']:.2f}"
    start = night[f"{name}_start"]
    return "—" if _is_missing(start) else f"{start:.3f}\nat start"


def show_labels(loop: Loop, console: Terminal, csv: Path | None) -> None:
    """Print annotators, queue, budgets, costs and next steps; with `csv`, also write a file."""
    facts, quality = read_labeling(loop), read_quality(loop)
    project, currency = loop.project, loop.project.cost.currency
    sheets = (
        *annotator_sheets(facts, quality, currency),
        queue_sheet(facts, project),
        budget_sheet(facts, currency),
        *cost_sheets(facts, currency),
    )
    for sheet in sheets:
        print_sheet(sheet, console)
    console.print("[bold]For better labels[/]")
    for step in next_steps(facts, quality, project):
        console.print(f"- {step}", highlight=False, markup=False)
    if csv is not None:
        annotator_frame(facts, quality, flags(facts, quality, project)).to_csv(csv)
        console.say(f"wrote {csv}")


def print_sheet(sheet: Sheet, console: Terminal) -> None:
    """Print heading, table and note of a sheet."""
    console.print(f"[bold]{escape(sheet.title)}[/]", highlight=False)
    if sheet.rows:
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(sheet.headings)
        )
        numbers = set(sheet.values)
        for column in range(len(sheet.rows[0])):
            heading = sheet.headings[column] if sheet.headings else ""
            justify: JustifyMethod = "right" if column in numbers else "left"
            table.add_column(escape(heading), justify=justify, overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(escape, row))
        console.print(table, highlight=False)
    console.print(f"[dim]{escape(sheet.note)}[/]\n" if sheet.note else "", highlight=False)
