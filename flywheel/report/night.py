"""The night in one Markdown page: the verdict, what each step came to, and where to look."""

from __future__ import annotations

from flywheel.ledger.history import get_night
from flywheel.ledger.models import get_decision, report_of_night
from flywheel.loop import Loop
from flywheel.report import markdown, text
from flywheel.report.judged import advice
from flywheel.report.labeling import LABELING_PAGE
from flywheel.report.measured import production_line
from flywheel.report.summaries import STEP_NAMES, step_results, summarize


def night_page(loop: Loop, number: int) -> str:
    """The summary of a night.

    Raises:
        UnknownIdError: there was no such night.
    """
    with loop.ledger.read() as connection:
        night = get_night(connection, number)
        decision = get_decision(connection, number)
        report = report_of_night(connection, number)
        done = step_results(connection, number)
    verdict, because = "No verdict yet", "The night has not come to a decision."
    if decision is not None:
        verdict, because = decision.verdict.value, decision.reasons[0]
    rows = [
        [name, markdown.plain(summarize(name, result)), text.duration(seconds)]
        for name, (result, seconds) in done.items()
    ]
    rows += [[name, "not done", "-"] for name in STEP_NAMES if name not in done]
    parts = [
        f"# {markdown.plain(loop.project.name)}, night {number}: {verdict}",
        markdown.plain(because),
        f"Began {night.started_at:%Y-%m-%d %H:%M} UTC.",
        markdown.table(("step", "what it came to", "time"), rows),
    ]
    if report is not None:
        parts.insert(2, f"**{markdown.plain(production_line(report))}**")
        parts.append(f"**Next:** {markdown.plain(advice(loop, report))}")
    routed = done["route"][0].project_url if "route" in done else None
    return "\n\n".join([*parts, _links(loop, number, routed)]) + "\n"


def _links(loop: Loop, number: int, project_url: str | None) -> str:
    page = f"{loop.project.server_url}/reports/{report_name(number)}"
    people = f"{loop.project.server_url}/reports/{LABELING_PAGE}"
    links = [f"- {markdown.link('the whole report', page)}"]
    links.append(f"- {markdown.link('who labels, how well and at what cost', people)}")
    if project_url is not None:
        links.append(f"- {markdown.link('the labeling project', project_url)}")
    return "\n".join(links)


def report_name(number: int) -> str:
    """The file name of a night's report."""
    return f"night-{number:04d}.html"
