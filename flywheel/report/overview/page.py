"""Writes the overview page: all nights in one HTML file, with its charts.

The file is self-contained: it loads nothing and has no script. It describes the project as of
now, not one night. Charts draw the values they are given; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.annotate.expense import Expense
from flywheel.collect import LEAST_EFFECT, Drift
from flywheel.loop import Loop
from flywheel.records import Estimate, FailureState
from flywheel.report.assess import Assessment, assess
from flywheel.report.history import draw_history
from flywheel.report.kit.charts import (
    Ink,
    Line,
    canvas,
    history_chart,
    short_name,
    to_svg,
    write_numbers,
)
from flywheel.report.kit.evidence import label_of, required_by
from flywheel.report.kit.measured import production_line
from flywheel.report.kit.pages import put, render
from flywheel.report.labeling.facts import LabelingFacts
from flywheel.report.labeling.page import LABELING_PAGE
from flywheel.report.labeling.sheets import cost_sheets
from flywheel.report.night.facts import thin_out
from flywheel.report.night.steps import advice
from flywheel.report.overview.ahead import ahead_sheet, goals_sheet, steps_sheet
from flywheel.report.overview.archetype import archetype_sheet
from flywheel.report.overview.facts import FixTimes, OverviewFacts, read_overview
from flywheel.report.overview.sheets import (
    drift_sheet,
    fix_times_sheet,
    median_line,
    nights_rows,
    releases_sheet,
    saved_line,
    saved_sheet,
    slices_sheet,
    states_sheet,
    within,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 120
_SLICES = 12
_STYLES: Mapping[FailureState, Any] = {
    FailureState.SEEN: (Ink.MUTED, "-", 1.4),
    FailureState.QUEUED: (Ink.MUTED, "--", 1.2),
    FailureState.LABELED: (Ink.CHAMPION, ":", 1.6),
    FailureState.TRAINED_ON: (Ink.CHAMPION, "-", 1.6),
    FailureState.FIXED: (Ink.CANDIDATE, "-", 2.2),
    FailureState.GUARDED: (Ink.CANDIDATE, "--", 1.2),
}
_FIXED = (FailureState.FIXED, FailureState.GUARDED)


def draw_overview(facts: OverviewFacts) -> dict[str, str]:
    """Return inline SVG by the key of its sheet or section; charts without data are left out."""
    drawn = dict(_numbers(facts))
    if len(facts.moves) > 1:
        drawn["states"] = _state_chart(facts.moves)
    if any(sum(counts.values()) for counts in facts.slices.values()):
        drawn["slices"] = _slice_chart(facts.slices)
    drawn |= dict(_costs(facts.labeling.nights))
    curves = [
        (name, times, ink)
        for name, times, ink in (
            ("since seen", facts.fix_times, Ink.CANDIDATE),
            ("since sent", facts.fix_times_since_sent, Ink.CHAMPION),
        )
        if times is not None
    ]
    if curves:
        drawn["fix-times"] = _fix_times_chart(curves)
    if len(facts.drift) > 1:
        drawn["drift"] = _drift_chart(facts.drift)
    return drawn


def release_nights(facts: OverviewFacts) -> list[int]:
    """Return the nights during or after which another model was released."""
    return sorted({released.night for released in facts.releases if released.night is not None})


def _numbers(facts: OverviewFacts) -> Iterator[tuple[str, str]]:
    """Yield the metric over the nights and its value in production."""
    report = facts.report
    if report is None:
        return
    yield from draw_history(report, facts.past, release_nights(facts)).items()
    same = [past for past in facts.past if past.metric_id == report.metric_id]
    known = [(past.night, past.production) for past in same if past.production is not None]
    if len(known) > 1:
        lines = [
            Line(
                name="production",
                points=tuple((night, production.estimate) for night, production in known),
            )
        ]
        naive = [
            (night, production.naive) for night, production in known if production.naive is not None
        ]
        lines.append(Line(name="all labels averaged", points=tuple(naive)))
        title = f"{report.metric} in production over {len(known)} nights, with its interval"
        yield "production", history_chart(lines, required_by(report), label_of(report), title)


def _state_chart(moves: Mapping[int, Mapping[FailureState, int]]) -> str:
    """Draw the cumulative number of failures that reached each state."""
    figure, axes = canvas(3.2)
    nights = list(moves)
    shown = thin_out(range(len(nights)), _POINTS)
    for state, (color, line, width) in _STYLES.items():
        totals = list(accumulate(moves[night].get(state, 0) for night in nights))
        axes.plot(
            [nights[place] for place in shown],
            [totals[place] for place in shown],
            line,
            color=color,
            linewidth=width,
            label=state.value,
        )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("suspects so far")
    write_numbers(axes.xaxis, "nights")
    _legend(figure, columns=3)
    return to_svg(figure, f"Cumulative suspects by state over {len(nights)} nights")


def _slice_chart(slices: Mapping[str, Mapping[FailureState, int]]) -> str:
    """Draw open and fixed failures of the largest slices as bars."""
    shown = dict(list(slices.items())[:_SLICES])
    figure, axes = canvas(1.3 + 0.32 * len(shown))
    for row, counts in enumerate(shown.values()):
        fixed = sum(counts.get(state, 0) for state in _FIXED)
        left = sum(counts.values()) - fixed
        axes.barh(row, left, height=0.6, color=Ink.CHAMPION, alpha=0.7, linewidth=0, label="open")
        axes.barh(
            row,
            fixed,
            left=left,
            height=0.6,
            color=Ink.CANDIDATE,
            alpha=0.7,
            linewidth=0,
            label="fixed or guarded",
        )
    axes.set_yticks(range(len(shown)), [short_name(name) for name in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("suspects")
    write_numbers(axes.xaxis, "whole")
    _legend(figure, columns=2)
    return to_svg(figure, f"Open and fixed suspects on {len(shown)} slices")


def _costs(nights: Mapping[int, Expense]) -> Iterator[tuple[str, str]]:
    if len(nights) < 2:
        return
    figure, axes = canvas(2.2)
    labels = [expense.num_labels for expense in nights.values()]
    axes.bar(list(nights), labels, width=0.8, color=Ink.CANDIDATE, alpha=0.7, linewidth=0)
    axes.set_ylabel("labels")
    write_numbers(axes.yaxis, "whole")
    write_numbers(axes.xaxis, "nights")
    yield "labels", to_svg(figure, f"Labels by the night that requested them, {len(nights)} nights")
    prices = [
        (night, expense.money_per_label)
        for night, expense in nights.items()
        if expense.money_per_label is not None
    ]
    if len(prices) > 1:
        yield "prices", _price_chart(prices)


def _price_chart(prices: Sequence[tuple[int, Estimate]]) -> str:
    figure, axes = canvas(2.2)
    for night, price in prices:
        axes.plot([night, night], [price.low, price.high], color=Ink.CHAMPION, linewidth=1.4)
    values = [price.value for _, price in prices]
    axes.plot([night for night, _ in prices], values, "o", color=Ink.CHAMPION, markersize=3.5)
    axes.set_ylim(
        0, max(2 * max(values), 1e-9)
    )  # few labels have an unbounded interval: scale by the values
    axes.set_ylabel("cost per label")
    write_numbers(axes.xaxis, "nights")
    return to_svg(figure, f"Cost per label by the night that requested it, {len(prices)} nights")


def _learning(found: Assessment) -> Iterator[tuple[str, str]]:
    """Draw what was measured with so many labels, and the band of what is expected with more."""
    if not found.ahead:
        return
    figure, axes = canvas(2.8)
    for points, mark in ((found.points, "o"), (found.parts, "s")):
        for number, value in points:
            axes.plot([number, number], [value.low, value.high], color=Ink.CHAMPION, linewidth=1.2)
            axes.plot([number], [value.value], mark, color=Ink.CHAMPION, markersize=3.5)
    labels = [number for number, _ in found.ahead]
    outlooks = [outlook for _, outlook in found.ahead]
    lows, highs = [one.low for one in outlooks], [one.high for one in outlooks]
    axes.fill_between(labels, lows, highs, color=Ink.CANDIDATE, alpha=0.15, linewidth=0)
    axes.plot(labels, [one.middle for one in outlooks], color=Ink.CANDIDATE, linewidth=2)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(labels, [f"{number:,}" for number in labels])
    axes.set_xlabel("labels that train")
    axes.set_ylabel(short_name(found.metric))
    yield "ahead", to_svg(figure, f"{found.metric} by labels, and what is expected with more")


def _fix_times_chart(curves: Sequence[tuple[str, FixTimes, Ink]]) -> str:
    """Draw the share of failures fixed within so many days, with its interval."""
    figure, axes = canvas(2.8)
    for name, times, color in curves:
        days = [0.0, *times.days]
        axes.step(
            days,
            [0.0, *times.shares],
            where="post",
            color=color,
            linewidth=2,
            label=short_name(name),
        )
        lows, highs = [0.0, *times.lows], [0.0, *times.highs]
        axes.fill_between(days, lows, highs, step="post", color=color, alpha=0.15, linewidth=0)
    axes.axhline(0.5, color=Ink.MUTED, linewidth=1.0, linestyle="--")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    write_numbers(axes.yaxis, "percent", decimals=0)
    axes.set_xlabel("days")
    axes.set_ylabel("fixed")
    _legend(figure, columns=1)
    return to_svg(figure, "Share of suspects fixed in production, by days")


def _drift_chart(measured: Sequence[tuple[int, Drift]]) -> str:
    """Draw the distance of each night down to its lower bound; red where it is an alarm."""
    figure, axes = canvas(2.4)
    for night, drift in _strongest(measured):
        color = Ink.REQUIRED if drift.is_alarm else Ink.CANDIDATE
        low, distance = drift.low or 0.0, drift.distance or 0.0
        axes.plot([night, night], [low, distance], color=color, linewidth=1.4)
        axes.plot([night], [distance], "o", color=color, markersize=3.5)
    axes.axhline(LEAST_EFFECT, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("distance")
    write_numbers(axes.xaxis, "nights")
    alarms = sum(drift.is_alarm for _, drift in measured)
    return to_svg(figure, f"Drift over {len(measured)} nights, {alarms} of them with an alarm")


def _strongest(measured: Sequence[tuple[int, Drift]]) -> list[tuple[int, Drift]]:
    """Thin out to 120 nights: of neighbours, keep the one with the highest lower bound."""
    step = -(-len(measured) // _POINTS)
    parts = (measured[start : start + step] for start in range(0, len(measured), step))
    return [max(part, key=lambda item: (item[1].low or 0.0, item[0])) for part in parts]


def _legend(figure: Figure, columns: int) -> None:
    """Place the legend above the axes, with each name once."""
    axes = figure.axes[0]
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.0,
        handlelength=1.8,
        frameon=False,
        labelcolor=Ink.TEXT,
    )


OVERVIEW_PAGE = "flywheel.html"


def write_overview(loop: Loop, labeling: LabelingFacts | None = None) -> Path:
    """Write the page atomically and return its path.

    Args:
        loop: the project.
        labeling: the labeling facts, if the caller has read them already.
    """
    facts = read_overview(loop, labeling)
    assessed = assess(loop, facts.labeling.whole)
    report, currency = facts.report, loop.project.cost.currency
    folder = loop.project.state / "reports"
    page = render(
        "overview.html",
        project=loop.project,
        facts=facts,
        currency=currency,
        next_step=advice(loop, report) if report else None,
        production_line=production_line(report) if report else "",
        nights=nights_rows(facts, loop),
        states=states_sheet(facts),
        slices=slices_sheet(facts),
        costs=cost_sheets(facts.labeling, currency)[0],
        saved=saved_sheet(facts.saved),
        saved_line=within(saved_line(facts.saved)) if facts.saved else None,
        fix_times=fix_times_sheet(facts),
        median=within(median_line(facts.fix_times)) if facts.fix_times else None,
        releases=releases_sheet(facts),
        drift=drift_sheet(facts),
        labeling_page=LABELING_PAGE,
        archetype=archetype_sheet(loop.project, facts, assessed),
        goals=goals_sheet(assessed),
        ahead=ahead_sheet(assessed),
        steps=steps_sheet(assessed),
        pages={path.name for path in folder.glob("night-*.html")},
        charts=draw_overview(facts) | dict(_learning(assessed)),
    )
    return put(folder / OVERVIEW_PAGE, page)
