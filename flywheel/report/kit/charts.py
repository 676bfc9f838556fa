"""Shared parts of all charts: colours, axes, export to SVG or PNG; and charts with intervals.

In HTML a chart is inline SVG whose colours are the page's CSS variables, so that it follows light
and dark mode. The same input gives the same bytes; matplotlib's global state is not used.
"""

from __future__ import annotations

import enum
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from flywheel.records import Entry, Estimate

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.figure import Figure


class Ink(enum.StrEnum):
    """A colour as drawn; in SVG a CSS variable of the page replaces it."""

    TEXT = "#1b1f24"
    MUTED = "#6a7178"
    GRID = "#d5d9dd"
    CANDIDATE = "#0b63c5"
    CHAMPION = "#c2600a"
    REQUIRED = "#b3261e"


_VARIABLES = {
    Ink.TEXT: "--ink",
    Ink.MUTED: "--muted",
    Ink.GRID: "--line",
    Ink.CANDIDATE: "--candidate",
    Ink.CHAMPION: "--champion",
    Ink.REQUIRED: "--required",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "flywheel",
    "font.family": "sans-serif",
    "font.size": 10.0,
}
_WIDTH_INCHES = 4.5


def canvas(height_inches: float) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - see below

    with _styled():
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        axes = figure.add_subplot()
    figure.patch.set_alpha(0.0)
    axes.patch.set_alpha(0.0)
    axes.grid(visible=True, color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=Ink.MUTED, labelcolor=Ink.TEXT, length=0)
    axes.xaxis.label.set_color(Ink.TEXT)
    axes.yaxis.label.set_color(Ink.TEXT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _styled() -> AbstractContextManager[None]:
    import matplotlib as mpl  # noqa: PLC0415 - half a second, and most commands draw nothing

    return mpl.rc_context(_STYLE)


def write_numbers(axis: Axis, form: str, decimals: int | None = None) -> None:
    """Label an axis in "whole" numbers only, a drawn x axis in "nights", or one in "percent"."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter  # noqa: PLC0415 - see above

    if form == "percent":
        axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals))
    else:
        axis.set_major_locator(MaxNLocator(integer=True))
    if form == "nights":
        axis.set_label_text("night")
        axis.axes.set_xlim(left=max(axis.axes.get_xlim()[0], 0.5))  # the first is night 1


def short_name(name: str) -> str:
    """Return a name cut to 22 characters and escaped for matplotlib."""
    shown = name if len(name) <= 22 else f"{name[:21]}…"
    shown = shown.lstrip("_") or "?"
    return shown.replace("$", r"\$")


def to_svg(figure: Figure, title: str) -> str:
    """Return inline SVG with `title` as its description for screen readers."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - see above

    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _styled(), warnings.catch_warnings():
        # The font is only used to measure text; the browser draws it in its own.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        _lay_out(FigureCanvasSVG(figure))
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # unused, and duplicated across charts of a page
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(title), svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg


def _lay_out(canvas: FigureCanvasBase) -> None:
    """Find the places of all parts; without this, savefig draws the figure twice to find them."""
    figure = canvas.figure
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def to_png(figure: Figure) -> bytes:
    """Return PNG on white, for pages that show no SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - see above

    figure.set_facecolor("white")
    figure.patch.set_alpha(1.0)  # the dashboard may be dark
    data = io.BytesIO()
    with _styled():
        _lay_out(FigureCanvasAgg(figure))
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _opening(title: str) -> str:
    said = escape(title).replace("\\", r"\\")
    return rf'<svg viewBox="\1" role="img" aria-label="{said}">'


_DASHES: Any = ("-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 4)))
_COLORS = {
    "candidate": Ink.CANDIDATE,
    "champion": Ink.CHAMPION,
    "production": Ink.CHAMPION,  # the champion is in production
}
_LEGEND_ORDER = ("candidate", "champion", "requirement")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """The values of one model or baseline over the nights."""

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
    """Return the metric over the nights as inline SVG: intervals for the models, lines for others.

    The champion has a band; nights of a release have a mark at the bottom.
    """
    return to_svg(_history(lines, required, label, releases), title)


def history_picture(lines: Sequence[Line], required: float | None, label: str) -> bytes:
    """Return the same chart as PNG, for pages that show no SVG."""
    return to_png(_history(lines, required, label, ()))


def interval_chart(entries: Sequence[Entry], required: float | None, label: str, title: str) -> str:
    """Return inline SVG: a row with a dot and an interval for each entry; unfair ones hollow."""
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
    """Return the training loss of each epoch as inline SVG."""
    return to_svg(_losses(losses), title)


def loss_picture(losses: Sequence[float]) -> bytes:
    """Return the same chart as PNG, for pages that show no SVG."""
    return to_png(_losses(losses))


def _losses(losses: Sequence[float]) -> Figure:
    figure, axes = canvas(2.2)
    epochs = range(1, len(losses) + 1)
    style = "o-" if len(losses) < 40 else "-"
    axes.plot(epochs, losses, style, color=Ink.CANDIDATE, markersize=3)
    axes.set_ylim(bottom=0 if min(losses, default=0.0) >= 0 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    write_numbers(axes.xaxis, "whole")
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
    axes.set_ylabel(label)
    write_numbers(axes.xaxis, "nights")
    _legend(figure, axes)
    return figure


def _band(axes: Axes, line: Line) -> None:
    nights = [night for night, _ in line.points]
    estimates = [estimate for _, estimate in line.points]
    lows = [estimate.low for estimate in estimates]
    highs = [estimate.high for estimate in estimates]
    axes.fill_between(nights, lows, highs, color=Ink.CHAMPION, alpha=0.18, linewidth=0)
    values = [estimate.value for estimate in estimates]
    axes.plot(nights, values, "-", color=Ink.CHAMPION, linewidth=2, label=short_name(line.name))


def _dots(axes: Axes, line: Line) -> None:
    nights = [night for night, _ in line.points]
    estimates = [estimate for _, estimate in line.points]
    values = [estimate.value for estimate in estimates]
    below = [max(estimate.value - estimate.low, 0.0) for estimate in estimates]
    above = [max(estimate.high - estimate.value, 0.0) for estimate in estimates]
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
    """Place the legend above the axes, the two models and the requirement first."""
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
