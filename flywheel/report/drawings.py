"""The charts of one report, by the keys of the sheets that they belong to.

Only what has data is drawn; all text in a chart is escaped where it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.decide import decompose
from flywheel.records import Checkpoint, Decision, Entry, Report
from flywheel.report import charts, evidence, text
from flywheel.report.weighed import evidence_of

_NAIVE = "all labels averaged"


def draw_report(report: Report, decision: Decision | None) -> dict[str, str]:
    """Inline SVG of entries, start_entries, production, slices, evidence, error and abstention."""
    drawn = dict(_entries(report))
    drawn |= _production(report)
    gains = [(part.name, part.difference) for part in report.slices]
    if any(gain is not None for _, gain in gains):
        title = f"Gain of the candidate on {len(gains)} slices, with intervals"
        drawn["slices"] = evidence.gain_chart(gains, "gain (positive is better)", title)
    path = evidence_of(report, decision)
    if path is not None:
        last = f"{path.values[-1]:.3g} of {path.needed:.3g} needed"
        title = f"E-value after each of {len(path.values)} fresh labels, the last {last}"
        drawn["evidence"] = evidence.evidence_chart(path.values, path.needed, title)
    parts = [(term.name, term.estimate) for term in decompose(report)]
    if sum(part is not None for _, part in parts) > 1:  # one alone has nothing beside it
        title = f"Parts of the error in {report.metric}"
        drawn["error"] = evidence.error_chart(parts, f"error in {report.metric}", title)
    if report.abstention is not None and report.abstention.curve:
        title = f"Failure rate over coverage, {len(report.abstention.curve)} thresholds"
        drawn["abstention"] = evidence.risk_chart(report.abstention, title)
    return drawn


def draw_loss(checkpoint: Checkpoint | None) -> dict[str, str]:
    """Inline SVG of the training loss."""
    if checkpoint is None or not checkpoint.losses:
        return {}
    losses = checkpoint.losses
    title = f"Training loss over {len(losses)} epochs, the last {text.number(losses[-1])}"
    return {"loss": charts.loss_chart(losses, title)}


def label_of(report: Report) -> str:
    """The metric as the name of an axis."""
    direction = "higher" if report.higher_is_better else "lower"
    return f"{report.metric} ({direction} is better)"


def required_by(report: Report) -> float | None:
    """The number that the product requires of the metric."""
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
