"""One table of a page, in plain text: Markdown and HTML pages show the same ones.

A sheet has no markup in it; each page escapes the cells for itself.
"""

from __future__ import annotations

from dataclasses import dataclass


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
