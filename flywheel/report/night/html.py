"""Writes the report of a night: one self-contained HTML file.

Renders the facts with pictures and charts. For each quantity with a unit in the metric it draws
the distribution of the errors from the stored scores, since a mean hides whether a few answers
are far off or all are slightly off. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from flywheel.errors import FlywheelError
from flywheel.evaluate import Part, unpack_book
from flywheel.loop import Loop
from flywheel.loop.steps import STEPS
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import has_unit
from flywheel.records import Array, Report, Verdict
from flywheel.report.facts import NightFacts, read_facts
from flywheel.report.history import draw_history
from flywheel.report.kit.challenge import budget_sheet, error_sheet
from flywheel.report.kit.charts import Ink, canvas, short_name, to_svg
from flywheel.report.kit.evidence import draw_loss, draw_report
from flywheel.report.kit.measured import annotators_sheet, measured_sheets, production_line
from flywheel.report.kit.pages import put, render
from flywheel.report.kit.pictures import show_cases
from flywheel.report.labeling.facts import read_labeling
from flywheel.report.labeling.page import LABELING_PAGE, write_labeling
from flywheel.report.night.judged import advice
from flywheel.report.night.markdown import report_name
from flywheel.report.night.steps import summarize
from flywheel.report.overview.page import OVERVIEW_PAGE, write_overview

_COLORS = {"candidate": Ink.CANDIDATE, "champion": Ink.CHAMPION}
_DASHES = ("-.", ":", "--")
_SHOWN = 0.95
"""quantile of the models' scores at which the axis ends; outliers would squeeze the rest"""
_FEWEST = 5


def draw_distributions(loop: Loop, report: Report) -> dict[str, str]:
    """Return inline SVG of each quantity with a unit in the metric's formulas, by its name.

    Latency is left out, since it has samples of its own. Empty if the report's scores are missing
    or were changed: replaying its decision reports that; a page is written without the charts.
    """
    try:
        book, written = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
    except FlywheelError:
        return {}
    part = book.get("test") if written is not None else None
    if part is None or len(part.ids) < _FEWEST:
        return {}
    return {
        name: _draw(part, name, bounds)
        for name, bounds in _quantities(loop, report).items()
        if any(name in part.scores.get(model, {}) for model in _COLORS)
    }


def _quantities(loop: Loop, report: Report) -> dict[str, list[float]]:
    """Map each score with a unit in the metric's formulas to the bounds set on it."""
    settings, directory = report.metric_settings, loop.project.directory
    found: dict[str, list[float]] = {}
    for text in (settings["optimize"], *settings["ignore"]):
        for name in sorted(compile_formula(text, directory).columns):
            found.setdefault(name, [])
    for text in settings["require"]:
        condition = compile_condition(text, directory)
        for name in sorted(condition.statistic.columns):
            found.setdefault(name, []).append(condition.bound)
    return {name: bounds for name, bounds in found.items() if has_unit(name)}


def _draw(part: Part, name: str, bounds: list[float]) -> str:
    """Draw the share of production (y) with a score of at most x, a line per model or baseline."""
    figure, axes = canvas(2.8)
    known = {who: table[name] for who, table in part.scores.items() if name in table}
    others = [who for who in known if who not in _COLORS]
    for who, (values, shares) in _curves(known, part.weights):
        is_model = who in _COLORS
        style = "-" if is_model else _DASHES[others.index(who) % len(_DASHES)]
        color, width = _COLORS.get(who, Ink.MUTED), 2.0 if is_model else 1.2
        axes.step(
            values, shares, style, where="post", color=color, linewidth=width, label=short_name(who)
        )
    for bound in bounds:
        axes.axvline(bound, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    models = np.concatenate([values for who, values in known.items() if who in _COLORS])
    axes.set_xlim(min(0.0, float(models.min())), max(_reach(models), *bounds, 1e-9) * 1.05)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(name)
    axes.set_ylabel("share of production below")
    figure.legend(
        loc="outside upper left", ncols=2, frameon=False, labelcolor=Ink.TEXT, handlelength=1.6
    )
    return to_svg(figure, f"Distribution of {name} over {len(part.ids)} test samples")


def _reach(values: Array) -> float:
    return float(np.quantile(values, _SHOWN))


def _curves(
    known: Mapping[str, Array], weights: Array
) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Yield weighted empirical CDFs: name, sorted values, and the share at or below each."""
    for who, values in known.items():
        order = np.argsort(values, kind="stable")
        shares = np.cumsum(weights[order]) / weights.sum()
        yield who, (np.append(values[order[:1]], values[order]), np.append(0.0, shares))


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
    return render(
        "night.html",
        project=loop.project,
        facts=facts,
        meaning=_MEANING[facts.decision.verdict] if facts.decision else "",
        kept=_kept(facts),
        next_step=advice(loop, report) if report else None,
        production_line=production_line(report) if report else "",
        measured=(*measured_sheets(report), annotators_sheet(loop, report)) if report else (),
        weighed=(budget_sheet(report, facts.decision), error_sheet(report)) if report else (),
        shown=show_cases(loop, facts.cases, _EDGE_PIXELS),
        steps=_steps(facts),
        labeling_page=LABELING_PAGE,
        overview_page=OVERVIEW_PAGE,
        project_url=facts.steps["route"][0].project_url if "route" in facts.steps else None,
        charts=_charts(facts),
        distributions=draw_distributions(loop, report) if report else {},
    )


def _kept(facts: NightFacts) -> str:
    """Return why a promoted candidate was not released; "" if it was, or was not promoted."""
    is_promoted = facts.decision is not None and facts.decision.verdict is Verdict.PROMOTE
    if not is_promoted or "release" not in facts.steps:
        return ""
    released = facts.steps["release"][0]
    return "" if released.release_number is not None else str(released.note)


def _steps(facts: NightFacts) -> list[tuple[str, str, float | None]]:
    """Return name, summary and seconds of every step; None seconds: not done."""
    rows: list[tuple[str, str, float | None]] = []
    for name in (step.name for step in STEPS):
        if name in facts.steps:
            result, seconds = facts.steps[name]
            rows.append((name, summarize(name, result), seconds))
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
