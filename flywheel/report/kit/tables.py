"""The tables and galleries that several Markdown pages share.

Turns cases and sheets into cells. Knows no step and no night.

One table of a page, in plain text: Markdown and HTML pages show the same ones.

A sheet has no markup in it; each page escapes the cells for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.records import Share, Signal
from flywheel.report.kit import markdown, text
from flywheel.report.kit.pictures import Shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table with its heading."""

    key: str
    """tells it apart on a page; a chart of the same key belongs to it"""
    title: str
    headings: tuple[str, ...] = ()
    """one a column; none: the rows are what and value"""
    rows: tuple[tuple[str, ...], ...]
    values: tuple[int, ...] = ()
    """columns that hold numbers"""
    note: str = ""
    """a sentence below; why there are no rows when there are none"""
    caption: str = ""
    """what its chart shows"""


def facts_sheet(key: str, title: str, rows: list[tuple[str, str]], note: str = "") -> Sheet:
    """What and value."""
    return Sheet(key=key, title=title, rows=tuple(rows), note=note)


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


def sheet(one: Sheet, level: str = "##") -> str:
    """A sheet under its heading; every cell as text."""
    parts = [f"{level} {markdown.plain(one.title)}"]
    cells = [[markdown.plain(cell) for cell in row] for row in one.rows]
    if one.rows and one.headings:
        parts.append(markdown.table(one.headings, cells))
    elif one.rows:
        parts.append(markdown.facts([(what, value) for what, value in one.rows]))
    if one.note:
        parts.append(markdown.plain(one.note))
    return "\n\n".join(parts)


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
