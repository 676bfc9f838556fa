"""What annotators see of a sample: whether a labeling config shows it, and a browser can.

What fails here is refused before anything is published: an annotator would see an error in its
place, and Label Studio refuses a whole request for one value of a wrong type.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from xml.etree import ElementTree as ET

from flywheel.errors import PayloadError, TaskError
from flywheel.pictures import open_picture
from flywheel.records import Json, Media

RESERVED = frozenset({"sample_id", "key", "reason", "confidence", "model"})
"""names in the data of a labeling task that the product writes itself"""


class MediaType(NamedTuple):
    """A media type that browsers show."""

    name: str
    """as it is registered"""
    extension: str
    """of its files; Label Studio takes no other files than these"""
    kind: str
    """what it is, in messages and in a page: image, audio, text file"""
    begins: bytes = b""
    """how its files begin, a pattern; b"": they are pictures or text"""


_TYPES: Mapping[str, MediaType] = {
    one.name: one
    for one in (
        MediaType("image/png", "png", "image"),
        MediaType("image/jpeg", "jpg", "image"),
        MediaType("image/gif", "gif", "image"),
        MediaType("image/webp", "webp", "image"),
        MediaType("audio/wav", "wav", "audio", rb"RIFF....WAVE"),
        MediaType("audio/mpeg", "mp3", "audio", rb"ID3|\xff[\xe0-\xff]"),
        MediaType("audio/ogg", "ogg", "audio", rb"OggS"),
        MediaType("audio/flac", "flac", "audio", rb"fLaC"),
        MediaType("audio/mp4", "m4a", "audio", rb"....ftyp"),
        MediaType("video/mp4", "mp4", "video", rb"....ftyp"),
        MediaType("video/webm", "webm", "video", rb"\x1aE\xdf\xa3"),
        MediaType("application/pdf", "pdf", "PDF", rb".{0,1019}%PDF-"),
        MediaType("text/html", "html", "HTML file"),
        MediaType("text/plain", "txt", "text file"),
        # Label Studio parses an uploaded .csv as a list of labeling tasks.
        MediaType("text/csv", "txt", "CSV file"),
    )
}
_ALIASES = {
    "image/jpg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
}
PICTURES = ("PNG", "JPEG", "GIF", "WEBP")
"""formats that browsers show, as Pillow names them"""
_MOST_BYTES = 100_000_000
"""of a medium"""
_MOST_JSON_BYTES = 1_000_000
"""of all JSON of a sample: the data manager of Label Studio loads a hundred rows of it at once"""

_BRIEF_CHARACTERS = 80

_SHOWN_BY = {
    "Audio": {"audio", "text"},
    "AudioPlus": {"audio", "text"},
    "Chat": {"list", "text"},
    "Header": {"text", "number"},
    "HyperText": {"HTML file", "text"},
    "Image": {"image", "list", "text"},
    "List": {"list", "text"},
    "Paragraphs": {"list", "text"},
    "Pdf": {"PDF", "text"},
    "Table": {"object", "list", "text"},
    "Text": {"text file", "text", "number", "list"},
    "TimeSeries": {"CSV file", "object", "text"},
    "Video": {"video", "text"},
}
"""tag -> the kinds of value that it shows; a text is an address of its own where it is not shown"""
_FETCHED = {"Text", "HyperText"}
"""tags that show an address as it is, without valueType="url" """
_VALUES = {"value", "valueList"}
"""attributes in which $names stand within a text"""
_ANSWERS = {"Choice", "Label"}
"""tags whose value is an answer, which may begin with $"""
_NAME = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
_PART = re.compile(r"\$\w+[.\[]")
"""a $name of which only a part is shown: $record.title, $pages[0]"""


def type_of(media: Media) -> MediaType:
    """The type of a medium; parameters and case, as a Content-Type may have them, do not matter.

    Raises:
        PayloadError: browsers do not show it.
    """
    name = media.media_type.partition(";")[0].strip().lower()
    known = _TYPES.get(_ALIASES.get(name, name))
    if known is None:
        raise PayloadError(
            f"browsers do not show {media.media_type!r}. Give one of {', '.join(_TYPES)}"
        )
    return known


def kind_of(value: Json | Media) -> str:
    """What a value is: image, audio, text, number, list, object.

    Raises:
        PayloadError: it is a medium of a type that browsers do not show.
    """
    if isinstance(value, Media):
        return type_of(value).kind
    if isinstance(value, str):
        return "text"
    if isinstance(value, (dict, list, tuple)):
        return "object" if isinstance(value, dict) else "list"
    return "null" if value is None else "number"


@lru_cache(maxsize=8)
def names_in(config: str) -> Mapping[str, Sequence[ET.Element]]:
    """The $names that a labeling config shows -> the tags that show them; none if it is no XML."""
    found = defaultdict[str, list[ET.Element]](list)
    try:
        root = ET.fromstring(config)  # noqa: S314  the user's own file, parsed on the user's machine
    except ET.ParseError:
        return {}
    for node in root.iter():
        for attribute, text in node.attrib.items():
            if node.tag not in _ANSWERS and (attribute in _VALUES or text.startswith("$")):
                for name in _NAME.findall(text):
                    found[name].append(node)
    return found


def check_fit(config: str, shown: Mapping[str, Json | Media]) -> None:
    """Raise an error where what a task gives is not what its labeling config shows.

    Raises:
        TaskError: a name is missing or reserved, or a value is of a kind that its tag does not show.
        PayloadError: a medium is of a type that browsers do not show.
    """
    names = names_in(config)
    missing, reserved = sorted(names.keys() - shown.keys()), sorted(shown.keys() & RESERVED)
    if missing:
        raise TaskError(
            f"labeling.data of the task gives {', '.join(shown)}, and the labeling config shows "
            f"${missing[0]}. Give every $name of the config"
        )
    if reserved:
        raise TaskError(
            f"labeling.data of the task gives {reserved[0]!r}, which flywheel writes itself. Take "
            f"another name than {', '.join(sorted(RESERVED))}"
        )
    for name, nodes in names.items():
        for node in nodes:
            _check_tag(name, node, shown[name])


def _check_tag(name: str, node: ET.Element, value: Json | Media) -> None:
    kinds, kind = _SHOWN_BY.get(node.tag), kind_of(value)
    if kinds is None or any(_PART.search(text) for text in node.attrib.values()):
        return
    if kind not in kinds:
        raise TaskError(
            f"labeling.data of the task gives a value of the kind {kind} as {name!r}, which "
            f"<{node.tag}> does not show. Give one of {', '.join(sorted(kinds))}, or change the config"
        )
    is_fetched = node.get("valueType") == "url"
    if node.tag in _FETCHED and isinstance(value, Media) and not is_fetched:
        raise TaskError(
            f"<{node.tag}> of the labeling config would show the address of the {kind} {name!r}. "
            f'Add valueType="url" to it, or give the text itself'
        )


def check_shown(shown: Mapping[str, Json | Media]) -> None:
    """Raise an error for values that a browser, or Label Studio's database, cannot take.

    Raises:
        PayloadError: a medium is of a type that browsers do not show, damaged or too large; a text
            holds a NUL or half a character, or there is too much of it.
    """
    size = 0
    for name, value in shown.items():
        try:
            if isinstance(value, Media):
                check_media(value)
            else:
                size += _json_bytes(value)
        except PayloadError as error:
            raise PayloadError(f"{name!r} cannot be shown: {error}") from error
    if size > _MOST_JSON_BYTES:
        raise PayloadError(
            f"{', '.join(shown)} hold {size:,} bytes of text, and at most {_MOST_JSON_BYTES:,} are "
            'sent. Give a long text as Media of text/plain, shown with valueType="url"'
        )


def check_media(media: Media) -> None:
    """Raise an error for a file that a browser cannot show.

    Raises:
        PayloadError: its media type is not shown by browsers, or it is damaged or too large.
    """
    known, payload = type_of(media), media.payload
    if len(payload) > _MOST_BYTES:
        raise PayloadError(
            f"the {known.kind} has {len(payload):,} bytes, and at most {_MOST_BYTES:,} are "
            "published. Cut it into parts"
        )
    if not payload:
        raise PayloadError(f"the {known.kind} has 0 bytes. Give a whole {known.extension} file")
    if known.kind == "image":
        open_picture(payload, formats=PICTURES)
    elif known.begins and not re.match(known.begins, payload, re.DOTALL):
        raise PayloadError(
            f"{len(payload):,} bytes are no {media.media_type}. Give a whole {known.extension} file"
        )
    elif not known.begins:
        try:
            _json_bytes(payload.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise PayloadError(
                f"the {known.kind} is not UTF-8 ({error.reason} at byte {error.start:,}). Encode it "
                "so, as browsers read it"
            ) from error


def _json_bytes(value: Json) -> int:
    """The size of a value as JSON."""
    if any("\0" in text for text in _texts(value)):
        raise PayloadError("there is a NUL in it, which databases do not store. Leave it out")
    try:
        return len(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise PayloadError(
            f"{error.object[error.start]!r} is half a character. Give text that UTF-8 can encode"
        ) from error


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def describe(shown: Mapping[str, Json | Media]) -> str:
    """What a sample shows, in words on one line: texts cut, media by type and size."""
    return "; ".join(f"{name}: {_brief(value)}" for name, value in shown.items())


def _brief(value: Json | Media) -> str:
    if isinstance(value, Media):
        return f"{value.media_type}, {len(value.payload) / 1000:,.1f} kB"
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(words[: 2 * _BRIEF_CHARACTERS].split())
    return line if len(line) <= _BRIEF_CHARACTERS else f"{line[: _BRIEF_CHARACTERS - 1]}…"
