"""Thumbnails of samples as data URIs, so that a page is self-contained.

A sample that cannot be shown gets a reason instead of a picture; it never makes a page fail.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from PIL.Image import DecompressionBombError

from flywheel.errors import FlywheelError
from flywheel.faults import UNREADABLE
from flywheel.ledger.failures import Case
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop
from flywheel.records import Sample
from flywheel.task import Task

_PNG_LIMIT_BYTES = 8_000
_JPEG_QUALITY = 80
_NOT_SHOWN = (*UNREADABLE, FlywheelError, OSError, SyntaxError, DecompressionBombError)


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
        return task.labeling.picture(sample)
    return task.drawing(sample, case.answer, case.label.answer if case.label else None)


def _small(picture: bytes, edge_pixels: int) -> str:
    """Return PNG if it is small, else JPEG: photographs are smaller that way."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
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
