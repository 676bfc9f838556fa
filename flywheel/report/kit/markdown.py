"""Markdown that shows text from outside as text: tables, links and pictures for Prefect's pages.

What was written elsewhere can neither break a table nor become a tag. Nothing of a night is
known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

_PUNCTUATION = re.compile(r"([\\`*_\[\]#!|~])")
_LIST_MARK = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=]))")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_URLS = ":/?&=#%.,;@+~-_"


def plain(text: object) -> str:
    """Text as it is, on one line, whatever it holds; addresses in it become no links."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    escaped = _PUNCTUATION.sub(r"\\\1", line).translate(_ENTITIES)
    escaped = _LIST_MARK.sub(r"\1\\", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """A table of two columns, what and value, both plain text."""
    return table(("", ""), [(f"**{plain(what)}**", plain(value)) for what, value in pairs])


def link(text: str, url: str | None) -> str:
    """A link; plain text when there is no web address to go to."""
    if url is None or not url.startswith(("http://", "https://")):
        return plain(text)
    return f"[{plain(text)}]({quote(url, safe=_IN_URLS)})"


def bullets(items: Sequence[object]) -> str:
    """A list of plain texts."""
    return "\n".join(f"- {plain(item)}" for item in items)
