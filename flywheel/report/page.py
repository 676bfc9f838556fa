"""Writes the report of a night: one HTML file that needs nothing from anywhere.

The template says how it looks, `facts` what it holds; this module brings the two together with
pictures and charts, and puts the file in place in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel.loop import Loop
from flywheel.records import Entry, Estimate, Report, Verdict
from flywheel.report import charts, tables, text
from flywheel.report.facts import NightFacts, read_facts
from flywheel.report.judged import advice
from flywheel.report.night import report_name
from flywheel.report.pictures import show_cases
from flywheel.report.summaries import STEP_NAMES, summarize

_EDGE_PIXELS = 160
_MEANING = {
    Verdict.PROMOTE: "The candidate is good enough to serve.",
    Verdict.HOLD: "The candidate is not worse; the gain is not shown yet.",
    Verdict.REJECT: "The candidate does not serve. This is a normal end of a night.",
    Verdict.NO_VERDICT: "There is not enough data to say.",
}


def write_report(loop: Loop, number: int) -> Path:
    """Write the page of a night and return its path; an older one is replaced in one piece.

    Raises:
        UnknownIdError: there was no such night.
    """
    page = _render(loop, read_facts(loop, number))
    path = loop.project.state / "reports" / report_name(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _render(loop: Loop, facts: NightFacts) -> str:
    environment = Environment(
        loader=PackageLoader("flywheel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=text.number,
        estimate=text.estimate,
        answer=text.answer,
        digest=text.digest,
        duration=text.duration,
        why=tables.why,
    )
    report = facts.report
    return environment.get_template("night.html").render(
        project=loop.project,
        facts=facts,
        not_enough=text.NOT_ENOUGH,
        meaning=_MEANING[facts.decision.verdict] if facts.decision else "",
        kept=_kept(facts),
        next_step=advice(loop, report) if report else None,
        shown=show_cases(loop, facts.cases, _EDGE_PIXELS),
        steps=_steps(facts),
        project_url=facts.steps["route"][0].project_url if "route" in facts.steps else None,
        charts=_charts(facts),
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
    for name in STEP_NAMES:
        if name in facts.steps:
            result, seconds = facts.steps[name]
            rows.append((name, summarize(name, result), seconds))
        else:
            rows.append((name, "not done", None))
    return rows


def _charts(facts: NightFacts) -> dict[str, str]:
    """The charts for which there is data; all text in them is escaped where they are drawn."""
    drawn: dict[str, str] = {}
    if facts.report is not None:
        drawn |= _measured(facts.report, facts.past)
    if facts.checkpoint is not None and facts.checkpoint.losses:
        losses = facts.checkpoint.losses
        title = f"Training loss over {len(losses)} epochs, the last {text.number(losses[-1])}"
        drawn["loss"] = charts.loss_chart(losses, title)
    return drawn


def _measured(report: Report, past: Sequence[Report]) -> dict[str, str]:
    """The history and the night's entries, for the frozen test set and for the start data."""
    comparable = [one for one in past if one.metric == report.metric]
    direction = "higher" if report.higher_is_better else "lower"
    label = f"{report.metric} ({direction} is better)"
    required = _required(report)
    drawn = {}
    for part, name in (("entries", "the frozen test set"), ("start_entries", "the start data")):
        lines = _lines([(one.night, getattr(one, part)) for one in comparable])
        if any(len(line.points) > 1 for line in lines):
            title = f"{report.metric} over the nights on {name}"
            drawn[f"{part}_history"] = charts.history_chart(lines, required, label, title)
        entries = [entry for entry in getattr(report, part) if entry.kind != "requirement"]
        if any(entry.metric is not None for entry in entries):
            title = f"{report.metric} in night {report.night} on {name}, with intervals"
            drawn[part] = charts.interval_chart(entries, required, label, title)
    return drawn


def _lines(nights: Sequence[tuple[int, Sequence[Entry]]]) -> list[charts.Line]:
    """One line for everyone that was measured in any of the nights."""
    points: dict[str, list[tuple[int, Estimate]]] = {}
    for night, entries in nights:
        for entry in entries:
            if entry.metric is not None and entry.kind != "requirement":
                points.setdefault(entry.name, []).append((night, entry.metric))
    return [charts.Line(name=name, points=tuple(found)) for name, found in points.items()]


def _required(report: Report) -> float | None:
    for entry in report.entries:
        if entry.kind == "requirement" and entry.metric is not None:
            return entry.metric.value
    return None
