"""Sheets (tables in plain text) and galleries, shared by HTML pages, Markdown pages and the CLI.

A sheet contains no markup; each kind of page escapes the cells itself.

Pictures of samples are data URIs, so that a page is self-contained. A sample that cannot be shown gets
a reason instead of a picture; it never makes a page fail.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from flywheel.errors import FlywheelError
from flywheel.faults import UNREADABLE
from flywheel.ledger.failures import Case
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop
from flywheel.media import first_picture
from flywheel.pictures import open_picture
from flywheel.records import Sample, Share, Signal
from flywheel.report.kit import markdown, text
from flywheel.task import Task

_PNG_LIMIT_BYTES = 8_000
_JPEG_QUALITY = 80
_NOT_SHOWN = (*UNREADABLE, FlywheelError, OSError, SyntaxError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A case with its picture."""

    case: Case
    uri: str | None
    """a data URI; None: there is no picture"""
    fault: str
    """why there is no picture; "": there is one"""
    is_drawn: bool
    """whether answer and label are drawn in the picture; else the page shows them as text"""


def show_cases(loop: Loop, cases: Sequence[Case], edge_pixels: int) -> list[Shown]:
    """Return each case with its picture, whose edges are at most `edge_pixels` long.

    If the task has a drawing function, the picture shows the model's answer and the label.
    """
    return [_show(loop, case, edge_pixels) for case in cases]


def data_uri(png: bytes) -> str:
    """Return PNG bytes as a data URI."""
    return _uri("image/png", png)


def _show(loop: Loop, case: Case, edge_pixels: int) -> Shown:
    try:
        with loop.ledger.read() as connection:
            (sample,) = load_samples(connection, loop.blobs, [case.sample_id])
        uri = _small(_picture(loop.task, sample, case), edge_pixels)
    except _NOT_SHOWN as error:
        fault = str(error) or type(error).__name__
        return Shown(case=case, uri=None, fault=fault, is_drawn=False)
    return Shown(case=case, uri=uri, fault="", is_drawn=loop.task.drawing is not None)


def _picture(task: Task, sample: Sample, case: Case) -> bytes:
    if task.drawing is None:
        return first_picture(task.labeling.data(sample))
    return task.drawing(sample, case.answer, case.label.answer if case.label else None)


def _small(picture: bytes, edge_pixels: int) -> str:
    """Return PNG if it is small, else JPEG: photographs are smaller that way."""
    image = open_picture(picture).convert("RGB")
    image.thumbnail((edge_pixels, edge_pixels))
    times = edge_pixels // max(image.size)
    if times > 1:  # enlarge tiny pictures by whole pixels
        size = (image.width * times, image.height * times)
        image = image.resize(size, Image.Resampling.NEAREST)
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    if png.getbuffer().nbytes <= _PNG_LIMIT_BYTES:
        return _uri("image/png", png.getvalue())
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return _uri("image/jpeg", jpeg.getvalue())


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


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


def facts_sheet(key: str, title: str, rows: list[tuple[str, str]], note: str = "") -> Sheet:
    """Return a sheet of names and values, without headings."""
    return Sheet(key=key, title=title, rows=tuple(rows), note=note)


def gallery(shown: Sequence[Shown]) -> str:
    """Return a Markdown table of samples: picture, answer, confidence, reason, label."""
    headings = ("picture", "model said", "confidence", "why", "label", "sample")
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
    picture = f"![model said {markdown.plain(said)}]({shown.uri})"
    if shown.uri is None:
        picture = f"no picture: {markdown.plain(shown.fault)}"
    label = f"{text.answer(case.label.answer)} ({case.label.source})" if case.label else "none yet"
    return [
        picture,
        markdown.plain(said),
        text.number(case.confidence),
        markdown.plain(why(shown)),
        markdown.plain(label),
        f"`{text.digest(case.sample_id)}`",
    ]
