"""The charts of numbers with intervals: over the nights, side by side, and of the training.

Draws what it is given, in the order given. Nothing of a night is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flywheel.records import Entry, Estimate
from flywheel.report.canvas import Ink, canvas, short_name, to_png, to_svg

_DASHES: Any = ("-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 4)))
_COLORS = {
    "candidate": Ink.CANDIDATE,
    "champion": Ink.CHAMPION,
    "production": Ink.CHAMPION,  # the champion is what serves
}
_LEGEND_ORDER = ("candidate", "champion", "requirement")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line over the nights: who, and its value where there is one."""

    name: str
    points: tuple[tuple[int, Estimate], ...]
    """night and value"""


def history_chart(
    lines: Sequence[Line],
    required: float | None,
    label: str,
    title: str,
    releases: Sequence[int] = (),
) -> str:
    """The metric over the nights as inline SVG: intervals for the two models, lines for others.

    What serves, or served, has a band; nights of a release have a mark at the bottom.
    """
    return to_svg(_history(lines, required, label, releases), title)


def history_picture(
    lines: Sequence[Line], required: float | None, label: str, releases: Sequence[int] = ()
) -> bytes:
    """The same as PNG, for pages that show no SVG."""
    return to_png(_history(lines, required, label, releases))


def interval_chart(entries: Sequence[Entry], required: float | None, label: str, title: str) -> str:
    """Every value as a dot with its interval, one row each, as inline SVG; unfair ones hollow."""
    figure, axes = canvas(0.9 + 0.32 * len(entries))
    for row, entry in enumerate(entries):
        color = _COLORS.get(entry.name, Ink.MUTED)
        if entry.metric is not None:
            style = "-" if entry.is_fair else ":"
            face = color if entry.is_fair else "none"
            ends = [entry.metric.low, entry.metric.high]
            axes.plot(ends, [row, row], color=color, linewidth=2, linestyle=style)
            axes.plot([entry.metric.value], [row], "o", color=color, mfc=face, markersize=6)
        else:
            place = axes.get_yaxis_transform()
            axes.text(0.02, row, "not enough data", color=Ink.MUTED, va="center", transform=place)
    if required is not None:
        axes.axvline(required, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    axes.set_yticks(range(len(entries)), [short_name(entry.name) for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlabel(label)
    return to_svg(figure, title)


def loss_chart(losses: Sequence[float], title: str) -> str:
    """The training loss of each epoch as inline SVG."""
    return to_svg(_losses(losses), title)


def loss_picture(losses: Sequence[float]) -> bytes:
    """The same as PNG, for pages that show no SVG."""
    return to_png(_losses(losses))


def _losses(losses: Sequence[float]) -> Figure:
    figure, axes = canvas(2.2)
    epochs = range(1, len(losses) + 1)
    style = "o-" if len(losses) < 40 else "-"
    axes.plot(epochs, losses, style, color=Ink.CANDIDATE, markersize=3)
    axes.set_ylim(bottom=0 if min(losses, default=0.0) >= 0 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _history(
    lines: Sequence[Line], required: float | None, label: str, releases: Sequence[int]
) -> Figure:
    figure, axes = canvas(2.8 + 0.1 * len(lines))
    others = [line for line in lines if line.name not in _COLORS]
    for index, line in enumerate(others):
        nights = [night for night, _ in line.points]
        style = _DASHES[index % len(_DASHES)]
        values = [estimate.value for _, estimate in line.points]
        name = short_name(line.name)
        axes.plot(nights, values, linestyle=style, color=Ink.MUTED, linewidth=1.2, label=name)
    for line in lines:
        if line.name in ("champion", "production"):
            _band(axes, line)
        elif line.name == "candidate":
            _dots(axes, line)
    if required is not None:
        axes.axhline(
            required, color=Ink.REQUIRED, linewidth=1.4, linestyle="--", label="requirement"
        )
    if releases:
        place = axes.get_xaxis_transform()
        feet = [0.0] * len(releases)
        axes.plot(
            releases, feet, "^", color=Ink.TEXT, markersize=5, transform=place, label="release"
        )
    axes.set_xlabel("night")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes)
    return figure


def _band(axes: Axes, line: Line) -> None:
    nights = [night for night, _ in line.points]
    estimates = [estimate for _, estimate in line.points]
    lows, highs = [e.low for e in estimates], [e.high for e in estimates]
    axes.fill_between(nights, lows, highs, color=Ink.CHAMPION, alpha=0.18, linewidth=0)
    values = [e.value for e in estimates]
    axes.plot(nights, values, "-", color=Ink.CHAMPION, linewidth=2, label=short_name(line.name))


def _dots(axes: Axes, line: Line) -> None:
    nights = [night for night, _ in line.points]
    estimates = [estimate for _, estimate in line.points]
    values = [e.value for e in estimates]
    below = [max(e.value - e.low, 0.0) for e in estimates]
    above = [max(e.high - e.value, 0.0) for e in estimates]
    axes.errorbar(
        nights,
        values,
        yerr=[below, above],
        fmt="o",
        color=Ink.CANDIDATE,
        markersize=4 if len(nights) <= 25 else 2.5,
        elinewidth=1.2,
        label=short_name(line.name),
    )


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, the two models and the requirement first."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    first = [name for name in _LEGEND_ORDER if name in found]
    names = first + [name for name in found if name not in first]
    figure.legend(
        [found[name] for name in names],
        names,
        loc="outside upper left",  # it takes height from the axes, never width
        ncols=2,
        columnspacing=1.0,
        handlelength=1.6,
        frameon=False,
        labelcolor=Ink.TEXT,
    )
