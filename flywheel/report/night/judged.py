"""The Markdown pages of the steps evaluate and decide.

They show stored numbers and reasons; nothing is measured or decided here.
"""

from __future__ import annotations

from flywheel.decide import next_step
from flywheel.ledger.decisions import get_decision
from flywheel.ledger.reports import get_report, report_of_night
from flywheel.loop import Loop, NightRun
from flywheel.loop.results import Decided, Evaluated
from flywheel.records import Decision, Report
from flywheel.report.kit import markdown, tables
from flywheel.report.kit.challenge import budget_sheet, error_sheet, evidence_of
from flywheel.report.kit.evidence import evidence_picture
from flywheel.report.kit.measured import (
    annotators_sheet,
    measured_sheets,
    models_sheet,
    production_line,
)
from flywheel.report.kit.pictures import data_uri


def evaluate_page(run: NightRun, result: Evaluated) -> str:
    """Return the production estimate, all models and baselines, requirements and slices."""
    with run.loop.ledger.read() as connection:
        report = get_report(connection, result.report_id)
    sheets = (models_sheet(report), *measured_sheets(report), annotators_sheet(run.loop, report))
    number = f"**{markdown.plain(production_line(report))}**"
    return "\n\n".join([number, *map(tables.sheet, sheets)])


def decide_page(run: NightRun, result: Decided) -> str:
    """Return the verdict, every reason, the evidence and its budget, and the next step."""
    with run.loop.ledger.read() as connection:
        report = report_of_night(connection, run.number)
        decision = get_decision(connection, run.number)
    reasons = markdown.bullets(result.reasons)
    page = f"# {result.verdict.value}\n\n{reasons}"
    if report is None:
        return page
    parts = [
        page,
        tables.sheet(budget_sheet(report, decision)),
        *_picture(report, decision),
        tables.sheet(error_sheet(report)),
        f"**Next:** {markdown.plain(advice(run.loop, report))}",
    ]
    return "\n\n".join(parts)


def advice(loop: Loop, report: Report) -> str:
    """Return the suggested next step, in one sentence."""
    return next_step(report, loop.project.metric, loop.project.gate)


def _picture(report: Report, decision: Decision | None) -> list[str]:
    """Return the path of the e-value as a picture, if there is one."""
    evidence = evidence_of(report, decision)
    if evidence is None:
        return []
    uri = data_uri(evidence_picture(evidence.values, evidence.needed))
    return [f"![e-value after each fresh label, dashed: the e-value needed]({uri})"]
