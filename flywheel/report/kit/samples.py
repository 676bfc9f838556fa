"""Shows a sample on a page by its kind: picture, text with marked spans, table of fields, sound.

A page is self-contained and bounded: pictures are small data URIs, texts are cut, and of what is too
large or cannot stand on a page its media type and size are given. A sample that cannot be shown gets
a reason; it never makes a page fail. Templates escape all text of a part.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape
from typing import Literal, NamedTuple

from PIL import Image

from flywheel.errors import FlywheelError, PayloadError
from flywheel.faults import UNREADABLE
from flywheel.ledger.failures import Case
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop
from flywheel.media import PICTURES, describe, kind_of, names_in, type_of
from flywheel.pictures import open_picture
from flywheel.records import Json, Media, Sample
from flywheel.report.kit import markdown, text
from flywheel.task import Task

_PNG_LIMIT_BYTES = 8_000
_JPEG_QUALITY = 80
_SOUND_LIMIT_BYTES = 100_000
"""of a sound that is played on the page; a page shows up to 24 samples"""
_PARTS = 3
"""values of a sample that are shown"""
_FIELDS = 8
_TEXT_CHARACTERS = 300
_BEFORE_CHARACTERS = 60
"""of a long text before its first marked span"""
_MARKDOWN_CHARACTERS = 120
_NOT_SHOWN = (*UNREADABLE, FlywheelError, OSError, SyntaxError)
_TAG = re.compile(r"(?s)<(style|script)\b.*?</\1>|<[^>]*>")


Link = Callable[[str, str], str]
"""sample id and name of a part -> the address of its picture"""


class Piece(NamedTuple):
    """A stretch of a text."""

    text: str
    mark: str | None = None
    """what the answer calls it; None: no answer is about it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One value of a sample as a page shows it."""

    name: str
    """its name in the task's data"""
    kind: Literal["image", "audio", "text", "table", "note"]
    uri: str = ""
    """data URI of a picture or sound, or the address of a picture"""
    pieces: tuple[Piece, ...] = ()
    """of a text or note"""
    rows: tuple[tuple[str, str], ...] = ()
    """of a table: field and value"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A case with its sample."""

    case: Case
    parts: tuple[Part, ...]
    """(): it cannot be shown"""
    fault: str
    """why it cannot be shown; "": it is"""
    is_drawn: bool
    """whether answer and label are drawn in the picture; else the page shows them as text"""


def show_cases(
    loop: Loop, cases: Sequence[Case], edge_pixels: int, link: Link | None = None
) -> list[Shown]:
    """Return each case with its sample; the edges of pictures are at most `edge_pixels` long.

    If the task has a drawing function, the picture shows the model's answer and the label. With a
    `link`, pictures and sounds are not made now: a browser asks for those that it shows.
    """
    return [_show(loop, case, edge_pixels, link) for case in cases]


def show_sample(
    task: Task,
    sample: Sample,
    answer: Json,
    label: Json | None,
    edge_pixels: int,
    link: Link | None = None,
) -> tuple[Part, ...]:
    """Return what a page shows of a sample with an answer.

    Raises:
        FlywheelError: the task cannot show it, or its picture is damaged.
    """
    at = partial(link, sample.id) if link is not None else None
    if task.drawing is not None:
        name = "drawing"
        uri = at(name) if at else _small(task.drawing(sample, answer, label), edge_pixels)
        return (Part(name=name, kind="image", uri=uri),)
    shown = task.labeling.data(sample)
    marked = _longest_text(task.labeling.config, shown)
    return tuple(
        _part(name, value, answer if name == marked else None, edge_pixels, at)
        for name, value in list(shown.items())[:_PARTS]
    )


def in_markdown(parts: Sequence[Part], alt: str) -> str:
    """Return the parts in one cell of a Markdown table, which cannot play sounds."""
    return " ".join(_cell(part, alt) for part in parts)


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """Return bytes, by default of a PNG, as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _show(loop: Loop, case: Case, edge_pixels: int, link: Link | None) -> Shown:
    label = case.label.answer if case.label else None
    answer = label if case.answer is None else case.answer  # of what production never saw
    try:
        with loop.ledger.read() as connection:
            (sample,) = load_samples(connection, loop.blobs, [case.sample_id])
        parts = show_sample(loop.task, sample, answer, label, edge_pixels, link)
    except _NOT_SHOWN as error:
        fault = str(error) or type(error).__name__
        return Shown(case=case, parts=(), fault=fault, is_drawn=False)
    return Shown(case=case, parts=parts, fault="", is_drawn=loop.task.drawing is not None)


def _part(
    name: str,
    value: Json | Media,
    answer: Json | None,
    edge_pixels: int,
    link: Callable[[str], str] | None,
) -> Part:
    try:
        kind = kind_of(value)
    except PayloadError:  # a type that browsers do not show
        return Part(name=name, kind="note", pieces=(Piece(describe({name: value})),))
    if isinstance(value, Media):
        if kind == "image":
            uri = link(name) if link else _small(value.payload, edge_pixels)
            return Part(name=name, kind="image", uri=uri)
        if kind == "audio" and (link or len(value.payload) <= _SOUND_LIMIT_BYTES):
            uri = link(name) if link else data_uri(value.payload, type_of(value).name)
            return Part(name=name, kind="audio", uri=uri)
        if kind in ("text file", "CSV file"):
            value = value.payload.decode("utf-8", "replace")
        elif kind == "HTML file":
            value = unescape(_TAG.sub(" ", value.payload.decode("utf-8", "replace")))
    if isinstance(value, str):
        return Part(name=name, kind="text", pieces=tuple(_cut(_pieces(value, answer))))
    if kind in ("object", "list") and (rows := tuple(_rows(value))):
        return Part(name=name, kind="table", rows=rows)
    return Part(name=name, kind="note", pieces=(Piece(describe({name: value})),))


def _longest_text(config: str, shown: Mapping[str, Json | Media]) -> str | None:
    """The name of the text that spans of an answer are about: the longest that is shown as text.

    Spans of HTML count the characters that a browser shows, which nothing here does.
    """
    names = names_in(config)
    texts = {
        name: value
        for name, value in shown.items()
        if isinstance(value, str) and "Text" in {node.tag for node in names.get(name, ())}
    }
    return max(texts, key=lambda name: len(texts[name]), default=None)


def _pieces(whole: str, answer: Json) -> Iterator[Piece]:
    at = 0
    for start, end, name in sorted(_spans(answer), key=lambda span: (span[0], -span[1])):
        if at <= start < end <= len(whole):  # where two overlap, the first and longer is marked
            yield Piece(whole[at:start])
            yield Piece(whole[start:end], name)
            at = end
    yield Piece(whole[at:])


def _spans(answer: Json) -> Iterator[tuple[int, int, str]]:
    """Every start and end in an answer, counted in characters, and what it calls them."""
    if isinstance(answer, dict):
        start, end = answer.get("start"), answer.get("end")
        if type(start) is int and type(end) is int:
            rest = (value for key, value in answer.items() if key not in ("text", "start", "end"))
            yield start, end, next((text.answer(one) for one in rest if isinstance(one, str)), "")
            return
        answer = list(answer.values())
    if isinstance(answer, list):
        for one in answer:
            yield from _spans(one)


def _cut(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Shorten a text to what is near its first marked span, else to its beginning."""
    room = _TEXT_CHARACTERS
    for number, piece in enumerate(pieces):
        if number == 0 and len(piece.text) > room:
            follows = next(pieces, None)
            if follows is not None:
                yield Piece(f"…{piece.text[-_BEFORE_CHARACTERS:]}")
                yield Piece(follows.text[:room], follows.mark)
                room -= _BEFORE_CHARACTERS + len(follows.text)
                continue
        if len(piece.text) > room:
            yield Piece(f"{piece.text[: max(room, 0)]}…", piece.mark)
            return
        if piece.text:
            yield piece
        room -= len(piece.text)


def _rows(value: Json) -> Iterator[tuple[str, str]]:
    """Fields of an object, or the first objects of a list, each with a short value.

    Objects of two fields are rows themselves, as `flywheel.labeling.table` gives them.
    """
    fields: Iterable[Sequence[Json]]
    if isinstance(value, dict):
        fields = value.items()
    elif all(isinstance(one, dict) and len(one) == 2 for one in value):
        fields = [list(one.values()) for one in value]
    else:
        fields = enumerate(value, start=1)
    for number, (field, inner) in enumerate(fields):
        if number == _FIELDS:
            yield "…", f"{len(value) - _FIELDS:,} more"
            return
        yield text.answer(str(field)), text.answer(inner)


def _small(picture: bytes, edge_pixels: int) -> str:
    """Return PNG if it is small, else JPEG: photographs are smaller that way."""
    image = open_picture(picture, formats=PICTURES).convert("RGB")
    image.thumbnail((edge_pixels, edge_pixels))
    times = edge_pixels // max(image.size)
    if times > 1:  # enlarge tiny pictures by whole pixels
        size = (image.width * times, image.height * times)
        image = image.resize(size, Image.Resampling.NEAREST)
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    if png.getbuffer().nbytes <= _PNG_LIMIT_BYTES:
        return data_uri(png.getvalue())
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return data_uri(jpeg.getvalue(), "image/jpeg")


def _cell(part: Part, alt: str) -> str:
    if part.kind == "image":
        return f"![{markdown.plain(alt)}]({part.uri})"
    if part.kind == "audio":
        return f"{markdown.plain(part.name)}: a sound, on the report of the night"
    if part.kind == "table":
        return "; ".join(f"**{markdown.plain(a)}** {markdown.plain(b)}" for a, b in part.rows)
    room, cells = _MARKDOWN_CHARACTERS, list[str]()
    for piece in part.pieces:
        cells.append(_marked(piece, room))
        room -= len(piece.text)
        if room <= 0:
            break
    return " ".join(cell for cell in cells if cell)


def _marked(piece: Piece, room: int) -> str:
    shown = markdown.plain(piece.text if len(piece.text) <= room else f"{piece.text[:room]}…")
    if piece.mark is None or not shown:
        return shown
    return f"**{shown}** ({markdown.plain(piece.mark)})" if piece.mark else f"**{shown}**"
