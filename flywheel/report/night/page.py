"""Writes the report of a night: one self-contained HTML file, and one Markdown page for Prefect.

The
Markdown is small enough for the event limit of Prefect: one chart, and tables of a few rows. Nothing
is measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from flywheel.annotate.cost import Budget, read_budget, read_costs
from flywheel.ledger.history import get_night, reported_nights
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.ledger.progress import count_labeling
from flywheel.loop import Loop
from flywheel.loop.steps import STEPS, step_results
from flywheel.records import Decision, Report, Verdict
from flywheel.report.history import draw_history, history_png
from flywheel.report.kit import markdown, text
from flywheel.report.kit.challenge import budget_sheet, error_sheet
from flywheel.report.kit.classes import class_sheets, draw_classes, read_classes
from flywheel.report.kit.distributions import draw_distributions
from flywheel.report.kit.evidence import draw_loss, draw_report
from flywheel.report.kit.measured import annotators_sheet, measured_sheets, production_line
from flywheel.report.kit.pages import address, put, render
from flywheel.report.kit.samples import data_uri, show_cases
from flywheel.report.labeling.facts import read_labeling
from flywheel.report.labeling.page import LABELING_PAGE, write_labeling
from flywheel.report.labeling.sheets import allowance_cells
from flywheel.report.night.facts import NightFacts, comparable_reports, read_facts
from flywheel.report.night.steps import advice, summarize
from flywheel.report.overview.page import OVERVIEW_PAGE, write_overview

_EDGE_PIXELS = 160
_MEANING = {
    Verdict.PROMOTE: "The candidate is good enough to serve.",
    Verdict.HOLD: "The candidate is not worse; the gain is not significant yet.",
    Verdict.REJECT: "The candidate is not released. This is a normal end of a night.",
    Verdict.NO_VERDICT: "There is not enough data for a verdict.",
}


def write_report(loop: Loop, number: int) -> Path:
    """Write the page of a night atomically and return its path.

    The labeling page and the overview, to which it links, are rewritten too.

    Raises:
        UnknownIdError: there is no such night.
    """
    facts = read_facts(loop, number)
    labeling = read_labeling(loop)
    write_labeling(loop, labeling)
    path = put(loop.project.state / "reports" / report_name(number), _render(loop, facts))
    write_overview(loop, labeling)
    return path


def _render(loop: Loop, facts: NightFacts) -> str:
    report = facts.report
    classes = read_classes(loop, report) if report else None
    sheets = (*measured_sheets(report), *class_sheets(classes)) if report else ()
    return render(
        "night.html",
        project=loop.project,
        facts=facts,
        meaning=_MEANING[facts.decision.verdict] if facts.decision else "",
        kept=_kept(facts),
        next_step=advice(loop, report) if report else None,
        production_line=production_line(report) if report else "",
        measured=(*sheets, annotators_sheet(loop, report)) if report else (),
        weighed=(budget_sheet(report, facts.decision), error_sheet(report)) if report else (),
        shown=show_cases(loop, facts.cases, _EDGE_PIXELS),
        steps=_step_rows(facts),
        labeling_page=LABELING_PAGE,
        overview_page=OVERVIEW_PAGE,
        project_url=facts.steps["route"][0].project_url if "route" in facts.steps else None,
        charts=_charts(facts) | draw_classes(classes),
        distributions=draw_distributions(loop, report) if report else {},
    )


def _kept(facts: NightFacts) -> str:
    """Return why a promoted candidate was not released; "" if it was, or was not promoted."""
    is_promoted = facts.decision is not None and facts.decision.verdict is Verdict.PROMOTE
    if not is_promoted or "release" not in facts.steps:
        return ""
    released = facts.steps["release"][0]
    return "" if released.release_number is not None else str(released.note)


def _step_rows(facts: NightFacts) -> list[tuple[str, str, float | None]]:
    """Return name, summary and seconds of every step; None seconds: not done."""
    rows: list[tuple[str, str, float | None]] = []
    for name in (step.name for step in STEPS):
        if name in facts.steps:
            result, seconds = facts.steps[name]
            rows.append((name, summarize(name, result, facts.report), seconds))
        else:
            rows.append((name, "not done", None))
    return rows


def _charts(facts: NightFacts) -> dict[str, str]:
    """Return the charts with data."""
    drawn = draw_loss(facts.checkpoint)
    if facts.report is None:
        return drawn
    drawn |= draw_report(facts.report, facts.decision)
    return drawn | draw_history(facts.report, facts.past)


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
        _steps(done, report),
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
        f"**To improve:** {markdown.plain(advice(loop, report))}",
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


def _steps(done: dict[str, tuple[Any, float]], report: Report | None) -> str:
    rows = [
        [name, markdown.plain(summarize(name, result, report)), text.duration(seconds)]
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
    rows = [[name, *allowance_cells(allowance)] for name, allowance in purses]
    headings = (markdown.plain(currency), "limit", "spent", "committed", "left")
    return markdown.table(headings, rows)


def _links(
    loop: Loop, number: int, decision: Decision | None, done: dict[str, tuple[Any, float]]
) -> str:
    """Return links to the site, and to the night's report as a file if it has been written."""
    site = f"{loop.project.server_page}/pages/"
    pages = [
        ("the night, with the samples behind every number", f"{site}nights/{number}"),
        ("overview of all nights", site),
        ("labeling: quality, cost, queue", f"{site}annotators"),
    ]
    if decision is not None:
        pages.append(("the dossier of the decision", f"{site}decisions/{decision.id}"))
    if (loop.project.state / "reports" / report_name(number)).exists():
        pages.append(("the report, as a file", address(loop.project, report_name(number))))
    links = [f"- {markdown.link(title, url)}" for title, url in pages]
    url = done["route"][0].project_url if "route" in done else None
    if url is not None:
        links.append(f"- {markdown.link('the labeling project', url)}")
    return "## Links\n\n" + "\n".join(links)
