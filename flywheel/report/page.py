"""Writes the report of a night: one HTML file that needs nothing from anywhere.

The template says how it looks, `facts` what it holds; this module brings the two together with
pictures and charts.
"""

from __future__ import annotations

from pathlib import Path

from flywheel.loop import Loop
from flywheel.loop.steps import STEPS
from flywheel.records import Verdict
from flywheel.report.distributions import draw_distributions
from flywheel.report.drawings import draw_loss, draw_report
from flywheel.report.facts import NightFacts, read_facts
from flywheel.report.history import draw_history
from flywheel.report.judged import advice
from flywheel.report.labeling import LABELING_PAGE, write_labeling
from flywheel.report.labeling_facts import read_labeling
from flywheel.report.measured import measured_sheets, production_line
from flywheel.report.night import report_name
from flywheel.report.pictures import show_cases
from flywheel.report.rendering import put, render
from flywheel.report.steps import summarize
from flywheel.report.tiers import people_sheet
from flywheel.report.weighed import budget_sheet, error_sheet
from flywheel.report.wheel import WHEEL_PAGE, write_wheel

_EDGE_PIXELS = 160
_MEANING = {
    Verdict.PROMOTE: "The candidate is good enough to serve.",
    Verdict.HOLD: "The candidate is not worse; the gain is not shown yet.",
    Verdict.REJECT: "The candidate does not serve. This is a normal end of a night.",
    Verdict.NO_VERDICT: "There is not enough data to say.",
}


def write_report(loop: Loop, number: int) -> Path:
    """Write the page of a night and return its path; an older one is replaced in one piece.

    The pages of labeling and of all nights, to which it links, are written anew with it.

    Raises:
        UnknownIdError: there was no such night.
    """
    facts = read_facts(loop, number)
    labeling = read_labeling(loop)
    write_labeling(loop, labeling)
    path = put(loop.project.state / "reports" / report_name(number), _render(loop, facts))
    write_wheel(loop, labeling)
    return path


def _render(loop: Loop, facts: NightFacts) -> str:
    report = facts.report
    return render(
        "night.html",
        project=loop.project,
        facts=facts,
        meaning=_MEANING[facts.decision.verdict] if facts.decision else "",
        kept=_kept(facts),
        next_step=advice(loop, report) if report else None,
        production_line=production_line(report) if report else "",
        measured=(*measured_sheets(report), people_sheet(loop, report)) if report else (),
        weighed=(budget_sheet(report, facts.decision), error_sheet(report)) if report else (),
        shown=show_cases(loop, facts.cases, _EDGE_PIXELS),
        steps=_steps(facts),
        labeling_page=LABELING_PAGE,
        wheel_page=WHEEL_PAGE,
        project_url=facts.steps["route"][0].project_url if "route" in facts.steps else None,
        charts=_charts(facts),
        distributions=draw_distributions(loop, report) if report else {},
    )


def _kept(facts: NightFacts) -> str:
    """Why a candidate that was promoted does not serve; empty when it does, or was not."""
    is_promoted = facts.decision is not None and facts.decision.verdict is Verdict.PROMOTE
    if not is_promoted or "release" not in facts.steps:
        return ""
    released = facts.steps["release"][0]
    return "" if released.release_number is not None else str(released.note)


def _steps(facts: NightFacts) -> list[tuple[str, str, float | None]]:
    """Name, sentence and seconds of every step; no seconds for one that is not done."""
    rows: list[tuple[str, str, float | None]] = []
    for name in (step.name for step in STEPS):
        if name in facts.steps:
            result, seconds = facts.steps[name]
            rows.append((name, summarize(name, result), seconds))
        else:
            rows.append((name, "not done", None))
    return rows


def _charts(facts: NightFacts) -> dict[str, str]:
    """The charts for which there is data."""
    drawn = draw_loss(facts.checkpoint)
    if facts.report is None:
        return drawn
    drawn |= draw_report(facts.report, facts.decision)
    return drawn | draw_history(facts.report, facts.past)
