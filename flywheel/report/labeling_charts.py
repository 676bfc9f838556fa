"""The pictures of the page of labeling: everybody's pace over the days, and how often they are right.

Draws what it is given, in the order given. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from matplotlib.axes import Axes

from flywheel.records import Entry, Estimate
from flywheel.report.canvas import Ink, canvas, short_name, to_svg
from flywheel.report.charts import interval_chart
from flywheel.report.labeling_facts import Person

_MOST_LINES = 6
_STYLES: Any = (
    (Ink.CANDIDATE, "-", "o"),
    (Ink.CHAMPION, "-", "s"),
    (Ink.MUTED, "-", "^"),
    (Ink.CANDIDATE, "--", "v"),
    (Ink.CHAMPION, "--", "D"),
    (Ink.MUTED, "--", "x"),
)
_TICKS = 6


def draw_people(people: Sequence[Person], min_reliability: float) -> dict[str, str]:
    """Inline SVG of pace and agreement, as far as there is data."""
    return dict(_charts(people, min_reliability))


def _charts(people: Sequence[Person], min_reliability: float) -> Iterator[tuple[str, str]]:
    paced = [one for one in people if one.pace][:_MOST_LINES]
    if paced:
        yield "pace", _pace_chart(paced)
    known = [one for one in people if one.measured is not None and one.measured.num_answers]
    if known:
        rows = [
            Entry(
                name=one.name,
                kind="",
                metric=Estimate(
                    value=one.measured.reliability,
                    low=one.measured.low,
                    high=one.measured.high,
                    num_samples=one.measured.num_answers,
                ),
            )
            for one in known
            if one.measured is not None
        ]
        title = f"Chance of the answers of {len(rows)} people to be right, with intervals"
        label = "chance of an answer to be right"
        yield "agreement", interval_chart(rows, min_reliability, label, title)


def _pace_chart(people: Sequence[Person]) -> str:
    """One line a person over the days, as inline SVG."""
    figure, axes = canvas(2.6 + 0.1 * len(people))
    for one, (color, line, mark) in zip(people, _STYLES, strict=False):
        days = [day.toordinal() for day, _ in one.pace]
        minutes = [value for _, value in one.pace]
        name = short_name(one.name)
        axes.plot(days, minutes, line, marker=mark, markersize=4, color=color, label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("minutes an answer")
    _name_days(axes, sorted({day for one in people for day, _ in one.pace}))
    figure.legend(
        loc="outside upper left",
        ncols=2,
        columnspacing=1.0,
        handlelength=2.2,
        frameon=False,
        labelcolor=Ink.TEXT,
    )
    return to_svg(figure, f"Mean minutes per answer of {len(people)} people over the days")


def _name_days(axes: Axes, days: Sequence[date]) -> None:
    """The first and the last day, and some between."""
    step = max(-(-len(days) // _TICKS), 1)
    shown = [*days[::-step]][::-1]
    axes.set_xticks([day.toordinal() for day in shown], [f"{day:%m-%d}" for day in shown])
    if len(days) == 1:
        axes.set_xlim(days[0].toordinal() - 1, days[0].toordinal() + 1)
