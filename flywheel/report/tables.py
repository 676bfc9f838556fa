"""The tables and galleries that several Markdown pages share.

Turns cases and the lines of a report into cells. Knows no step and no night.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.records import Entry, Report, Share, Signal
from flywheel.report import markdown, text
from flywheel.report.pictures import Shown


def gallery(shown: Sequence[Shown]) -> str:
    """One row a sample: picture, answer, confidence, why it is here, its label."""
    headings = ("picture", "model said", "confidence", "why", "label", "sample")
    return markdown.table(headings, [_row(one) for one in shown])


def signals_text(signals: Sequence[Signal]) -> str:
    """Signals with their strengths: low confidence 0.61, outcome contradiction 0.90."""
    return ", ".join(f"{s.name.replace('_', ' ')} {s.strength:.2f}" for s in signals)


def why(one: Shown) -> str:
    """Why a sample is shown: the draw with its probability, or its signals."""
    if one.case.share is Share.PROBABILITY:
        probability = text.number(one.case.inclusion_probability)
        signals = signals_text(one.case.signals)
        drawn = f"drawn at random, inclusion probability {probability}"
        return f"{drawn}; {signals}" if signals else drawn
    return signals_text(one.case.signals) or one.case.reason


def entries(report_entries: Sequence[Entry]) -> str:
    """The table of everyone who was measured."""
    rows = [
        [
            markdown.plain(entry.name),
            markdown.plain(entry.kind),
            text.estimate(entry.metric),
            f"{entry.metric.num_samples:,}" if entry.metric and entry.metric.num_samples else "-",
            markdown.plain(entry.note),
        ]
        for entry in report_entries
    ]
    return markdown.table(("who", "kind", "value [interval]", "samples", "note"), rows)


def slices(report: Report) -> str:
    """Candidate minus champion on every slice."""
    rows = [
        [markdown.plain(part.name), text.estimate(part.difference), f"{part.num_samples:,}"]
        for part in report.slices
    ]
    return markdown.table(("slice", "candidate minus champion [interval]", "samples"), rows)


def _row(one: Shown) -> list[str]:
    case = one.case
    said = text.answer(case.answer)
    picture = f"![model said {markdown.plain(said)}]({one.uri})"
    if one.uri is None:
        picture = f"no picture: {markdown.plain(one.fault)}"
    label = f"{text.answer(case.label.answer)} ({case.label.source})" if case.label else "none yet"
    return [
        picture,
        markdown.plain(said),
        text.number(case.confidence),
        markdown.plain(why(one)),
        markdown.plain(label),
        f"`{text.digest(case.sample_id)}`",
    ]
