"""The charts of a verdict: evidence, gains on slices, parts of the error, what deferring buys.

Draws what it is given, in the order given. Nothing is measured or decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flywheel.records import Abstention, Array, Estimate
from flywheel.report.canvas import Ink, canvas, short_name, to_png, to_svg

_LEAST_SHOWN = 1e-3
"""e-values below are drawn here: how far below 1 says nothing more"""

Rows = Sequence[tuple[str, Estimate | None]]
"""name and value"""


def evidence_chart(values: Array, needed: float, title: str) -> str:
    """The e-value after each of N fresh labels, (N,), on a log scale, as inline SVG."""
    return to_svg(_evidence(values, needed), title)


def evidence_picture(values: Array, needed: float) -> bytes:
    """The same as PNG, for pages that show no SVG."""
    return to_png(_evidence(values, needed))


def gain_chart(rows: Rows, label: str, title: str) -> str:
    """Forest plot as inline SVG: every gain with its interval beside the line of no gain."""
    figure, axes = canvas(0.9 + 0.32 * len(rows))
    axes.axvline(0.0, color=Ink.MUTED, linewidth=1.4, linestyle="--")
    for row, (_, gain) in enumerate(rows):
        if gain is None:
            place = axes.get_yaxis_transform()
            axes.text(0.02, row, "not enough data", color=Ink.MUTED, va="center", transform=place)
        else:
            color = Ink.REQUIRED if gain.high < 0 else Ink.CANDIDATE
            axes.plot([gain.low, gain.high], [row, row], color=color, linewidth=2)
            axes.plot([gain.value], [row], "s", color=color, markersize=6)
    axes.set_yticks(range(len(rows)), [short_name(name) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    return to_svg(figure, title)


def error_chart(rows: Rows, label: str, title: str) -> str:
    """The parts of an error as bars with intervals, as inline SVG; red where surely above 0."""
    figure, axes = canvas(0.9 + 0.36 * len(rows))
    axes.axvline(0.0, color=Ink.MUTED, linewidth=1.4)
    for row, (_, part) in enumerate(rows):
        if part is None:
            axes.text(0.0, row, " not enough data", color=Ink.MUTED, va="center")
        else:
            color = Ink.REQUIRED if part.low > 0 else Ink.MUTED
            axes.barh(row, part.value, height=0.55, color=color, alpha=0.45, linewidth=0)
            axes.plot([part.low, part.high], [row, row], color=color, linewidth=2)
    names = ["\n".join(map(short_name, name.split(" and "))) for name, _ in rows]  # merged parts
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    return to_svg(figure, title)


def risk_chart(abstention: Abstention, title: str) -> str:
    """Failure rate and its bound over the share that is answered, as inline SVG."""
    figure, axes = canvas(2.4)
    points = sorted(abstention.curve, key=lambda point: point.coverage)
    covered = [point.coverage for point in points]
    rates = [point.failure_rate for point in points]
    bounds = [point.failure_bound for point in points]
    axes.plot(covered, rates, "-", color=Ink.CANDIDATE, linewidth=2)
    axes.plot(covered, bounds, "--", color=Ink.CANDIDATE, linewidth=1.2)
    if abstention.max_failure_rate is not None:
        axes.axhline(abstention.max_failure_rate, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    kept = [point for point in points if point.threshold == abstention.threshold]
    axes.plot([p.coverage for p in kept], [p.failure_bound for p in kept], "o", color=Ink.REQUIRED)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of production that is answered")
    axes.set_ylabel("failures among them")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return to_svg(figure, title)


def _evidence(values: Array, needed: float) -> Figure:
    figure, axes = canvas(2.4)
    path = np.concatenate([[1.0], values])  # before the first label there is no evidence
    style = "o-" if len(values) < 40 else "-"
    shown = np.maximum(path, _LEAST_SHOWN)
    axes.plot(range(len(path)), shown, style, color=Ink.CANDIDATE, markersize=3, linewidth=1.6)
    axes.axhline(1.0, color=Ink.MUTED, linewidth=1.0)
    axes.axhline(needed, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylim(bottom=min(0.5, float(shown.min()) / 1.5), top=2 * max(needed, shown.max()))
    axes.minorticks_off()
    axes.set_xlabel("fresh labels")
    axes.set_ylabel("e-value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
