"""Text for a terminal and for a shell: what others wrote is shown, and never obeyed.

Metadata, answers, names and folders come from elsewhere. An escape sequence in one could rename
the window or hide a line, and a folder `R&D #2` in printed advice is a command of its own.
"""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

_KEPT = {"\n", "\t"}
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control and format characters, halves of pairs, and separators"""


def visible(text: str) -> str:
    r"""Return text with its control characters written out, such as `\x1b`.

    New lines and tabs stay. Characters that turn the direction of writing or have no width are
    written out too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(sign) for sign in text)


def quoted(path: Path | str) -> str:
    """Return a path as a word of a POSIX shell, on one line and never an option."""
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if all(sign.isprintable() for sign in text):
        return shlex.quote(text)
    raw = text.encode("utf-8", "surrogateescape")
    return "$'" + "".join(map(_in_quotes, raw)) + "'"


def _shown(sign: str) -> str:
    if sign in _KEPT or unicodedata.category(sign) not in _OBEYED:
        return sign
    return sign.encode("unicode_escape").decode()


def _in_quotes(byte: int) -> str:
    if chr(byte) in "\\'":
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
