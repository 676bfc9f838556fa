"""The page of one sample: what it is, what is known of it now, and its life as a time line."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from flywheel.errors import UnknownIdError
from flywheel.ledger.browse import cases_of
from flywheel.ledger.samples import find_sample, load_samples
from flywheel.loop import Loop
from flywheel.media import kind_of, type_of
from flywheel.records import Media
from flywheel.report.kit.samples import Shown, show_cases
from flywheel.report.site.query import GALLERY
from flywheel.report.trace import Event, trace

SMALL, LARGE = 160, 480
"""edges of pictures, in pixels"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """A sample and everything that happened to it."""

    sample_id: str
    shown: Shown
    is_predicted: bool
    """False: production never saw it, as the start data"""
    events: list[Event]


def life(loop: Loop, sample_id: str) -> Life:
    """Read the life of a sample that the ledger has."""
    with loop.ledger.read() as connection:
        seen = cases_of(connection, [sample_id])[sample_id]
    (shown,) = show_cases(loop, [seen.case], LARGE, partial(picture_address, edge_pixels=LARGE))
    events = trace(loop, sample_id)
    return Life(sample_id=sample_id, shown=shown, is_predicted=seen.place > 0, events=events)


def picture_address(sample_id: str, name: str, edge_pixels: int = SMALL) -> str:
    """Return where the picture or the sound of a part of a sample is."""
    return f"{GALLERY}/{sample_id}/{edge_pixels}/{quote(name, safe='')}"


def picture(loop: Loop, sample_id: str, name: str, edge_pixels: int) -> tuple[str, bytes]:
    """Return media type and bytes of the picture or sound of a part, with the model's answer where it is drawn.

    Raises:
        UnknownIdError: it has no such picture, or it cannot be shown.
    """
    with loop.ledger.read() as connection:
        seen = cases_of(connection, [find_sample(connection, sample_id)])
    (shown,) = show_cases(loop, [one.case for one in seen.values()], edge_pixels)
    for part in shown.parts:
        if part.kind == "image" and part.name == name:
            head, _, data = part.uri.partition(";base64,")
            return head.removeprefix("data:"), base64.b64decode(data)
    if not shown.fault:
        with loop.ledger.read() as connection:
            (sample,) = load_samples(connection, loop.blobs, list(seen))
        sound = loop.task.labeling.data(sample).get(name)
        if isinstance(sound, Media) and kind_of(sound) == "audio":
            return type_of(sound).name, sound.payload
    fault = shown.fault or f"it has no picture {name[:100]!r}"
    said = f"Sample {sample_id[:12]} is not shown: {fault}. Its page says what is known."
    raise UnknownIdError(said)
