"""The single metric over the nights: everybody's line, and the chart of them.

Only nights of one metric share an axis. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.records import Entry, Estimate, Report
from flywheel.report.charts import Line, history_chart, history_picture
from flywheel.report.drawings import label_of, required_by

_NOT_OVER_TIME = ("requirement", "published")
_PLACES = {"entries": "the frozen test set", "start_entries": "the start data"}


def draw_history(
    report: Report, past: Sequence[Report], releases: Sequence[int] = ()
) -> dict[str, str]:
    """Inline SVG of entries_history and start_entries_history, for the parts that have lines.

    Args:
        report: of the newest night; the others count as far as they are of its metric.
        past: the reports of the nights, oldest first.
        releases: nights that ended with another model serving.
    """
    return {
        f"{part}_history": history_chart(
            lines,
            required_by(report),
            label_of(report),
            f"{report.metric} over the nights on {place}",
            releases,
        )
        for part, place in _PLACES.items()
        if (lines := _lines(report, past, part))
    }


def history_png(
    report: Report, past: Sequence[Report], releases: Sequence[int] = ()
) -> tuple[str, bytes] | None:
    """What the first of these charts shows, in words, and the chart as PNG; None without lines."""
    for part, place in _PLACES.items():
        lines = _lines(report, past, part)
        if lines:
            shown = history_picture(lines, required_by(report), label_of(report), releases)
            return f"{report.metric} over the nights on {place}", shown
    return None


def _lines(report: Report, past: Sequence[Report], part: str) -> list[Line]:
    """One line for everyone that was measured in any of the nights; none when all are points."""
    points: dict[str, list[tuple[int, Estimate]]] = {}
    for one in past:
        entries: Sequence[Entry] = getattr(one, part) if _is_same_metric(one, report) else ()
        for entry in entries:
            if entry.metric is not None and entry.kind not in _NOT_OVER_TIME:
                points.setdefault(entry.name, []).append((one.night, entry.metric))
    if all(len(found) < 2 for found in points.values()):
        return []
    return [Line(name=name, points=tuple(found)) for name, found in points.items()]


def _is_same_metric(one: Report, other: Report) -> bool:
    """Reports that are older than the ids of metrics are told by the formula alone."""
    is_known = bool(one.metric_id and other.metric_id)
    return one.metric == other.metric and (not is_known or one.metric_id == other.metric_id)
