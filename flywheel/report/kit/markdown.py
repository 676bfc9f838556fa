"""Markdown helpers for Prefect's pages: tables, links and lists.

Text from outside (answers, notes, names) is escaped: it cannot break a table or become a tag.
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
    """Return any text on one line, escaped; URLs in it do not become links."""
    line = " ".join(
        "".join(character if character.isprintable() else " " for character in str(text)).split()
    )
    escaped = _PUNCTUATION.sub(r"\\\1", line).translate(_ENTITIES)
    escaped = _LIST_MARK.sub(r"\1\\", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Return a table of two columns, name and value; both are escaped."""
    return table(("", ""), [(f"**{plain(what)}**", plain(value)) for what, value in pairs])


def link(text: str, url: str | None) -> str:
    """Return a link; plain text if the URL is not a web address."""
    if url is None or not url.startswith(("http://", "https://")):
        return plain(text)
    return f"[{plain(text)}]({quote(url, safe=_IN_URLS)})"


def bullets(items: Sequence[object]) -> str:
    """Return a bullet list; the items are escaped."""
    return "\n".join(f"- {plain(item)}" for item in items)
