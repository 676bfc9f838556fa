"""The charts of one report: evidence, gains on slices, error decomposition, risk and coverage.

A chart has the key of the sheet it belongs to; charts without data are left out. Values are drawn
in the order given; nothing is measured or decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from flywheel.decide import decompose
from flywheel.records import Abstention, Array, Checkpoint, Decision, Entry, Estimate, Report
from flywheel.report.kit import charts, text
from flywheel.report.kit.challenge import evidence_of
from flywheel.report.kit.charts import (
    Ink,
    canvas,
    short_name,
    to_png,
    to_svg,
    write_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_SHOWN = 1e-3
"""smaller e-values are drawn here: how far below 1 they are does not matter"""

Rows = Sequence[tuple[str, Estimate | None]]
"""name and value"""


def evidence_chart(values: Array, needed: float, title: str) -> str:
    """Return the e-value after each of N fresh labels, (N,), on a log scale, as inline SVG."""
    return to_svg(_evidence(values, needed), title)


def evidence_picture(values: Array, needed: float) -> bytes:
    """Return the same chart as PNG, for pages that show no SVG."""
    return to_png(_evidence(values, needed))


def gain_chart(rows: Rows, label: str, title: str) -> str:
    """Return a forest plot as inline SVG: every gain with its interval, and the line of no gain."""
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
    """Return the parts of an error as bars with intervals; red where significantly above 0."""
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
    """Return failure rate and its upper bound over coverage, as inline SVG."""
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
    axes.plot(
        [point.coverage for point in kept],
        [point.failure_bound for point in kept],
        "o",
        color=Ink.REQUIRED,
    )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of production answered")
    axes.set_ylabel("failure rate")
    write_numbers(axes.xaxis, "percent", decimals=0)
    write_numbers(axes.yaxis, "percent")
    return to_svg(figure, title)


def _evidence(values: Array, needed: float) -> Figure:
    figure, axes = canvas(2.4)
    path = np.concatenate([[1.0], values])  # an e-process starts at 1
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
    write_numbers(axes.xaxis, "whole")
    return figure


_NAIVE = "all labels averaged"


def draw_report(report: Report, decision: Decision | None) -> dict[str, str]:
    """Return inline SVG of a report's sheets by key, where there is data."""
    return dict(_draw(_Judged(report, decision)))


@dataclass(frozen=True, slots=True)
class _Judged:
    report: Report
    decision: Decision | None

    def __hash__(self) -> int:
        return hash(self.report.id)


@lru_cache(maxsize=1)  # a night's page and its dossier show the same charts
def _draw(judged: _Judged) -> dict[str, str]:
    report, decision = judged.report, judged.decision
    drawn = dict(_entries(report))
    drawn |= _production(report)
    gains = [(part.name, part.difference) for part in report.slices]
    if any(gain is not None for _, gain in gains):
        title = f"Gain of the candidate on {len(gains)} slices, with intervals"
        drawn["slices"] = gain_chart(gains, "gain (positive is better)", title)
    path = evidence_of(report, decision)
    if path is not None:
        last = f"{path.values[-1]:.3g} of {path.needed:.3g} needed"
        title = f"E-value after each of {len(path.values)} fresh labels, the last {last}"
        drawn["evidence"] = evidence_chart(path.values, path.needed, title)
    parts = [(term.name, term.estimate) for term in decompose(report)]
    if sum(part is not None for _, part in parts) > 1:  # a single part has nothing to compare with
        title = f"Parts of the error in {report.metric}"
        drawn["error"] = error_chart(parts, f"error in {report.metric}", title)
    if report.abstention is not None and report.abstention.curve:
        title = f"Failure rate over coverage, {len(report.abstention.curve)} thresholds"
        drawn["abstention"] = risk_chart(report.abstention, title)
    return drawn


def draw_loss(checkpoint: Checkpoint | None) -> dict[str, str]:
    """Return inline SVG of the training loss by the key "loss"."""
    if checkpoint is None or not checkpoint.losses:
        return {}
    losses = checkpoint.losses
    title = f"Training loss over {len(losses)} epochs, the last {text.number(losses[-1])}"
    return {"loss": charts.loss_chart(losses, title)}


def label_of(report: Report) -> str:
    """Return the axis label of the metric."""
    direction = "higher" if report.higher_is_better else "lower"
    return f"{report.metric} ({direction} is better)"


def required_by(report: Report) -> float | None:
    """Return the value that the product requires of the metric; None: no requirement."""
    for entry in report.entries:
        if entry.kind == "requirement" and entry.metric is not None:
            return entry.metric.value
    return None


def _entries(report: Report) -> Iterator[tuple[str, str]]:
    places = {"entries": "the frozen test set", "start_entries": "the start data"}
    for part, place in places.items():
        shown = [
            entry
            for entry in getattr(report, part)
            if entry.kind != "requirement" and entry.is_same_metric
        ]
        if any(entry.metric is not None and entry.kind != "published" for entry in shown):
            title = f"{report.metric} in night {report.night} on {place}, with intervals"
            required = required_by(report)
            yield part, charts.interval_chart(shown, required, label_of(report), title)


def _production(report: Report) -> dict[str, str]:
    production = report.production
    if production is None:
        return {}
    found = (
        ("production", production.estimate),
        ("assisted", production.assisted),
        (_NAIVE, production.naive),
    )
    rows = [
        Entry(name=name, kind="", metric=known, is_fair=name != _NAIVE)
        for name, known in found
        if known is not None
    ]
    title = f"{report.metric} in production, and what averaging all labels would have claimed"
    return {"production": charts.interval_chart(rows, required_by(report), label_of(report), title)}
