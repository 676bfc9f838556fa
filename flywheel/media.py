"""Media that annotators see: which of them a browser shows, and under what name they are published.

A media type that is not in the table is refused before anything is published: an annotator would
see an error in its place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from xml.etree import ElementTree as ET

from flywheel.errors import PayloadError
from flywheel.pictures import open_picture
from flywheel.records import Json, Media

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "application/pdf": "pdf",
    "text/html": "html",
    "text/plain": "txt",
    "text/csv": "csv",
}
"""media type that browsers show -> extension of its files"""

_PICTURES = ("PNG", "JPEG", "GIF", "WEBP")


_VALUES = {"value", "valueList"}
"""attributes in which $names stand within a text"""
_ANSWERS = {"Choice", "Label"}
"""tags whose value is an answer, which may begin with $"""
_NAME = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)


@lru_cache(maxsize=8)
def names_in(config: str) -> Mapping[str, set[str]]:
    """The $names that a labeling config shows -> the tags that show them; none if it is no XML."""
    found = defaultdict[str, set[str]](set)
    try:
        root = ET.fromstring(config)  # noqa: S314  the user's own file, parsed on the user's machine
    except ET.ParseError:
        return {}
    for node in root.iter():
        for attribute, text in node.attrib.items():
            if node.tag in _ANSWERS or not (attribute in _VALUES or text.startswith("$")):
                continue
            for name in _NAME.findall(text):
                found[name].add(node.tag)
    return found


def check_media(media: Media) -> None:
    """Raise an error for a file that a browser cannot show.

    Raises:
        PayloadError: its media type is not shown by browsers, or it is damaged or too large.
    """
    if media.media_type not in EXTENSIONS:
        raise PayloadError(
            f"{media.media_type!r} is not shown by browsers. Give one of {', '.join(EXTENSIONS)}"
        )
    if media.media_type.startswith("image/"):
        open_picture(media.payload, formats=_PICTURES)


def first_picture(shown: Mapping[str, Json | Media]) -> bytes:
    """The first picture of what a sample shows.

    Raises:
        PayloadError: it shows none.
    """
    for value in shown.values():
        if isinstance(value, Media) and value.media_type.startswith("image/"):
            return value.payload
    raise PayloadError(f"there is no picture in {', '.join(shown)}. Draw one in the task's drawing")
