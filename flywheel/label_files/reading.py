"""Reads what rows of a file name: files below its folder, texts and JSON, each with its media type."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import NoReturn

from flywheel.label_files.rows import refuse
from flywheel.records import Json, Sample

MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".csv": "text/csv",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".html": "text/html",
    ".htm": "text/html",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ogg": "audio/ogg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
}
"""suffix -> media type; the first suffix of a type is the one that is written"""

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"%PDF-": "application/pdf",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""of pictures, as Pillow names them"""
PICTURES = frozenset(suffix for suffix, kind in MEDIA_TYPES.items() if kind.startswith("image/"))


def media_type_of(name: str, payload: bytes) -> str:
    """The media type by the first bytes, else by the suffix of the name."""
    if payload[:4] == b"RIFF" and payload[8:12] in _RIFF:
        return _RIFF[payload[8:12]]
    for beginning, kind in _BEGINNINGS.items():
        if payload.startswith(beginning):
            return kind
    return MEDIA_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def has_media_suffix(name: str) -> bool:
    """Whether a name ends like that of a file which can be a sample."""
    return Path(name).suffix.lower() in MEDIA_TYPES


def inside(base: Path, name: str, place: str) -> Path:
    """The path of a file that a row names, whether or not it is there.

    Raises:
        UserError: the name leads out of the folder, or is an address.
    """
    if "://" in name:
        refuse(place, f"{name:.80} is an address", "Download the files and name their paths")
    plain = name if (base / name).exists() else name.replace("\\", "/")
    if "\0" in plain:
        refuse(place, f"{name!r:.80} is no path", "Name a file below the folder of the labels")
    path = (base / plain).resolve()
    if not path.is_relative_to(base.resolve()):
        refuse(place, f"{name:.80} leads out of {base}", "Copy the file into that folder")
    return path


def file_sample(path: Path, metadata: dict[str, Json] | None = None) -> Sample:
    """The sample that a file holds."""
    payload = path.read_bytes()
    return Sample.of(payload, media_type_of(path.name, payload), metadata)


def text_sample(text: str, place: str, metadata: dict[str, Json] | None = None) -> Sample:
    """The sample that a text is.

    Raises:
        UserError: it holds half a character, as of an export that was cut.
    """
    try:
        return Sample.of(text.encode(), "text/plain", metadata)
    except UnicodeEncodeError as error:
        refuse(
            place, f"{text[error.start : error.end]!r} is half a character", "Export it as UTF-8"
        )


def read_json(path: Path) -> Json:
    """The JSON of a file.

    Raises:
        UserError: it is none; the message names the line.
    """
    return parse_json(decoded(path), str(path))


def parse_json(text: str, place: str) -> Json:
    """The JSON of a text.

    Raises:
        UserError: it is none, or holds NaN or an infinity.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"{place} line {error.lineno}" if "\n" in text else place
        refuse(where, f"no JSON: {error.msg} at column {error.colno}", "Correct it there")
    except (ValueError, RecursionError) as error:
        refuse(place, f"no JSON: {error}", "Correct it there")


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, or in what its byte order mark says.

    Raises:
        UserError: it is in another encoding.
    """
    data = path.read_bytes()
    name = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        refuse(f"{path} line {line}", f"byte {error.start} is no UTF-8", "Save it as UTF-8")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
