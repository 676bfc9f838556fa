"""The night in one Markdown page: verdict, numbers, results of the steps, links.

Small enough for Prefect's event limit: one chart, and tables of a few rows.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from flywheel.annotate.budget import Allowance, Budget, read_budget
from flywheel.annotate.cost import read_costs
from flywheel.ledger.decisions import get_decision
from flywheel.ledger.history import get_night, reported_nights
from flywheel.ledger.progress import count_labeling
from flywheel.ledger.reports import report_of_night
from flywheel.loop import Loop
from flywheel.loop.steps import STEPS, step_results
from flywheel.records import Decision, Report
from flywheel.report.facts import comparable_reports
from flywheel.report.history import history_png
from flywheel.report.kit import markdown, text
from flywheel.report.kit.measured import production_line
from flywheel.report.kit.pages import address, dossier_place
from flywheel.report.kit.pictures import data_uri
from flywheel.report.labeling.page import LABELING_PAGE
from flywheel.report.night.judged import advice
from flywheel.report.night.steps import summarize
from flywheel.report.overview.page import OVERVIEW_PAGE

_NIGHTS_DRAWN = 30
_MODELS = ("candidate", "champion", "requirement")


def night_page(loop: Loop, number: int) -> str:
    """Return the Markdown summary of a night.

    Raises:
        UnknownIdError: there is no such night.
    """
    with loop.ledger.read() as connection:
        night = get_night(connection, number)
        decision = get_decision(connection, number)
        report = report_of_night(connection, number)
        done = step_results(connection, number)
        labeling = _labeling(loop, connection, number)
        chart = _chart(connection, report) if report is not None else ""
    verdict, because = "No verdict yet", "The night has not reached a decision."
    if decision is not None:
        verdict, because = decision.verdict.value, decision.reasons[0]
    parts = [
        f"# {markdown.plain(loop.project.name)}, night {number}: {verdict}",
        markdown.plain(because),
        *(_measured(loop, report, chart) if report is not None else ()),
        f"## What the night did\n\nBegan {night.started_at:%Y-%m-%d %H:%M} UTC.",
        _steps(done),
        labeling,
        _links(loop, number, decision, done),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def baseline_rows(report: Report) -> list[dict[str, str]]:
    """Return a row per model and baseline, on the test set or, until it has data, the start data."""
    entries = report.entries
    if all(entry.metric is None for entry in entries if entry.kind in ("candidate", "champion")):
        entries = report.start_entries or entries
    return [
        {
            "who": entry.name,
            "kind": entry.kind,
            "value": text.number(entry.metric.value if entry.metric else None),
            "interval": text.interval(entry.metric),
            "samples": f"{entry.metric.num_samples:,}"
            if entry.metric and entry.metric.num_samples
            else "",
            "comparable": "yes" if entry.is_fair else "no",
            "note": entry.note,
        }
        for entry in entries
    ]


def report_name(number: int) -> str:
    """The file name of a night's report."""
    return f"night-{number:04d}.html"


def _measured(loop: Loop, report: Report, chart: str) -> list[str]:
    """Return the next step, the models side by side, and the metric over the nights."""
    rows = [
        [markdown.plain(row["who"]), row["value"], row["interval"], row["samples"]]
        for row in baseline_rows(report)
        if row["who"] in _MODELS
    ]
    difference = text.estimate(report.difference)
    return [
        f"**Next:** {markdown.plain(advice(loop, report))}",
        f"**{markdown.plain(production_line(report))}**",
        markdown.table((markdown.plain(report.metric), "value", "interval", "samples"), rows),
        f"Candidate minus champion, paired, positive is better: {difference}.",
        chart,
    ]


def _chart(connection: Connection, report: Report) -> str:
    """Return the metric over the last nights as a picture; "" for fewer than two nights."""
    numbers = reported_nights(connection, report.night)[-_NIGHTS_DRAWN:]
    drawn = history_png(report, comparable_reports(connection, report, numbers))
    if drawn is None:
        return ""
    title, picture = drawn
    return f"![{markdown.plain(title)}]({data_uri(picture)})"


def _steps(done: dict[str, tuple[Any, float]]) -> str:
    rows = [
        [name, markdown.plain(summarize(name, result)), text.duration(seconds)]
        for name, (result, seconds) in done.items()
    ]
    rows += [[step.name, "not done", "-"] for step in STEPS if step.name not in done]
    return markdown.table(("step", "result", "time"), rows)


def _labeling(loop: Loop, connection: Connection, number: int) -> str:
    """Return the progress of labeling and what is left of its budget."""
    counts = count_labeling(connection)
    total = counts["waiting"] + counts["sent"] + counts["done"]
    if not total:
        return "## Labeling\n\nNo sample has been queued for annotation yet."
    costs = read_costs(connection, loop.project)
    budget = read_budget(connection, loop.project, costs, number, loop.now())
    share = counts["done"] / total
    return (
        f"## Labeling\n\n{text.bar(share)} {share:.0%} came back: {counts['done']:,} of {total:,} "
        f"labeling tasks; {counts['sent']:,} are with annotators, {counts['waiting']:,} wait to be "
        f"sent.\n\n{_budget(budget, loop.project.cost.currency)}"
    )


def _budget(budget: Budget, currency: str) -> str:
    purses = ((f"night {budget.night}", budget.tonight), (budget.month, budget.this_month))
    rows = [[name, *_allowance(allowance)] for name, allowance in purses]
    headings = (markdown.plain(currency), "limit", "spent", "committed", "left")
    return markdown.table(headings, rows)


def _allowance(allowance: Allowance) -> list[str]:
    limit = "none" if allowance.limit is None else f"{allowance.limit:,.2f}"
    left = "no limit" if allowance.left is None else f"{allowance.left:,.2f}"
    return [limit, f"{allowance.spent:,.2f}", f"{allowance.committed:,.2f}", left]


def _links(
    loop: Loop, number: int, decision: Decision | None, done: dict[str, tuple[Any, float]]
) -> str:
    """Return links to the pages that have been written."""
    pages = [
        ("the whole report", report_name(number)),
        ("overview of all nights", OVERVIEW_PAGE),
        ("labeling: quality, cost, queue", LABELING_PAGE),
    ]
    if decision is not None:
        pages.append(("the dossier of the decision", dossier_place(decision.id)))
    folder = loop.project.state / "reports"
    links = [
        f"- {markdown.link(title, address(loop.project, name))}"
        for title, name in pages
        if (folder / name).exists()
    ]
    url = done["route"][0].project_url if "route" in done else None
    if url is not None:
        links.append(f"- {markdown.link('the labeling project', url)}")
    return "## Links\n\n" + "\n".join(links) if links else ""
