"""The terminal: every line of the command line is printed here, whatever it holds.

Text of others is shown without being obeyed, and a console that knows no UTF-8 gets plain signs.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from flywheel.shell import visible

HERE = Path()
Folder = Annotated[Path, typer.Argument(help="the folder with flywheel.toml")]
Directory = Annotated[Path, typer.Option("--directory", "-d", help="the folder with flywheel.toml")]

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]

_ERRORS = "flywheel-plain"
_PLAIN = {"✓": "ok", "✗": "x", "—": "-", "…": "...", "·": "-", "→": "->", "≥": ">=", "±": "+-"}
_BRAILLE = range(0x2800, 0x2900)


class Terminal(Console):
    """A console that shows control characters in place of sending them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text with its control characters written out, before anything is laid out."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is printed; rich's own control codes stay."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def say(self, line: str) -> None:
        """Print a line as it is: no markup, no colors, wrapped by the terminal."""
        self.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def say_json(self, value: object) -> None:
        """Print records as JSON: times in ISO 8601, what is not a finite number is null."""
        plain = json.loads(to_json(value, inf_nan_mode="null"))
        self.say(json.dumps(plain, indent=1))  # in ASCII, which every console has


console = Terminal()
_LONGEST = 60
"""characters of what is shown of a text"""


def short(text: str) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}..."


def shown_payload(media_type: str, beginning: bytes, size: int) -> str:
    """A sample of so many bytes in a line: its text, else what it is."""
    if media_type.startswith("text/") or media_type == "application/json":
        return f'"{short(beginning[: 4 * _LONGEST].decode(errors="replace"))}"'
    return f"{media_type}, {size:,} bytes"


def prepare_streams() -> None:
    """Let stdout and stderr replace what their encoding does not know; it never ends a command."""
    codecs.register_error(_ERRORS, _in_plain_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def complain(line: str) -> None:
    """Print a line of an error."""
    print(f"flywheel: {visible(line)}", file=sys.stderr)


def _in_plain_signs(error: UnicodeError) -> tuple[Any, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(map(_plain, signs)), error.end


def _plain(sign: str) -> str:
    if ord(sign) in _BRAILLE:
        return "*"  # a spinner
    return _PLAIN.get(sign) or sign.encode("unicode_escape").decode()
