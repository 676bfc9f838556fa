"""Sheets (tables in plain text) and galleries, shared by HTML pages, Markdown pages and the CLI.

A sheet contains no markup; each kind of page escapes the cells itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.records import Share, Signal
from flywheel.report.kit import markdown, text
from flywheel.report.kit.curves import CostCurve
from flywheel.report.kit.samples import Shown, in_markdown


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table with its heading."""

    key: str
    """unique on a page; a chart with the same key belongs to the sheet"""
    title: str
    headings: tuple[str, ...] = ()
    """one per column; (): the rows are name and value"""
    rows: tuple[tuple[str, ...], ...]
    values: tuple[int, ...] = ()
    """columns that hold numbers"""
    note: str = ""
    """sentences below the table; without rows, why there are none"""
    caption: str = ""
    """below its chart"""
    curve: CostCurve | None = None
    """that pages draw above the table, with the caption"""


def facts_sheet(key: str, title: str, rows: list[tuple[str, str]], note: str = "") -> Sheet:
    """Return a sheet of names and values, without headings."""
    return Sheet(key=key, title=title, rows=tuple(rows), note=note)


def gallery(shown: Sequence[Shown]) -> str:
    """Return a Markdown table of samples: what they show, answer, confidence, reason, label."""
    headings = ("shown", "model said", "confidence", "why", "label", "sample")
    return markdown.table(headings, [_row(sample) for sample in shown])


def signals_text(signals: Sequence[Signal]) -> str:
    """Format signals and their strengths: low confidence 0.61, outcome contradiction 0.90."""
    return ", ".join(f"{signal.name.replace('_', ' ')} {signal.strength:.2f}" for signal in signals)


def why(shown: Shown) -> str:
    """Return why a sample is shown: the random draw with its probability, or its signals."""
    if shown.case.share is Share.PROBABILITY:
        probability = text.number(shown.case.inclusion_probability)
        signals = signals_text(shown.case.signals)
        drawn = f"drawn at random, inclusion probability {probability}"
        return f"{drawn}; {signals}" if signals else drawn
    return signals_text(shown.case.signals) or shown.case.reason


def sheet(table: Sheet, level: str = "##") -> str:
    """Return a sheet with its heading as Markdown; all text is escaped."""
    parts = [f"{level} {markdown.plain(table.title)}"]
    cells = [[markdown.plain(cell) for cell in row] for row in table.rows]
    if table.rows and table.headings:
        parts.append(markdown.table(table.headings, cells))
    elif table.rows:
        parts.append(markdown.facts([(what, value) for what, value in table.rows]))
    if table.note:
        parts.append(markdown.plain(table.note))
    return "\n\n".join(parts)


def _row(shown: Shown) -> list[str]:
    case = shown.case
    said = text.answer(case.answer)
    seen = f"not shown: {markdown.plain(shown.fault)}"
    if shown.parts:
        seen = in_markdown(shown.parts, f"model said {said}")
    label = f"{text.answer(case.label.answer)} ({case.label.source})" if case.label else "none yet"
    return [
        seen,
        markdown.plain(said),
        text.number(case.confidence),
        markdown.plain(why(shown)),
        markdown.plain(label),
        f"`{text.digest(case.sample_id)}`",
    ]
