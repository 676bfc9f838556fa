"""What a row of a log means, whatever it came in: a prediction with its payload, or feedback.

A row is a dict of JSON values, or of texts where it came from a table without types. What cannot be
used is rejected with one reason, the same text for equal faults, so that they can be counted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn
from zoneinfo import ZoneInfo

import numpy as np
from pydantic_core import from_json

from flywheel.errors import UserError
from flywheel.ledger.predictions import feedback_id
from flywheel.ledger.samples import prediction_id
from flywheel.records import Array, Feedback, FeedbackKind, Json, canonical, is_number, is_storable

Kind = Literal["predictions", "feedback"]

FIELDS: dict[Kind, tuple[str, ...]] = {
    "predictions": (
        *("id", "time", "answer", "input", "base64", "path", "url", "media_type", "confidence"),
        *("embedding", "model", "latency_ms", "metadata"),
    ),
    "feedback": ("id", "kind", "value", "time", "source"),
}
"""the columns that are known; `metadata.NAME` is one entry of the metadata"""
_SAME = {"request_id": "id"}
"""as the model server names it in an answer"""
UNKNOWN_MODEL = "unknown"
"""the model of a prediction that names none"""

_METADATA = "metadata."
_MOST_ID, _MOST_MODEL, _MOST_SOURCE, _MOST_MEDIA_TYPE = 200, 64, 100, 100
_MOST_NUMBERS = 65_536
_MILLISECONDS = 1e11
"""seconds since 1970 above this are milliseconds: those would be in the year 5138"""
_AHEAD = timedelta(days=1)
_EXACTLY_ONE = ("input", "base64", "path", "url")
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class RejectedError(UserError):
    """A row that cannot be used, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A row that was left out."""

    place: int
    """its number, counted from 1; a header is none"""
    reason: str
    text: str = ""
    """the row as it came, or its beginning"""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How rows are read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """column -> field, where they have other names"""
    ignored: Collection[str] = ()
    """columns that are passed over"""
    zone: str | None = None
    """time zone of times that name none; None: these are rejected"""
    are_texts: bool = False
    """whether every value is a text, as in CSV"""
    are_numbers: bool = False
    """whether an answer that looks like a number in such a table is one"""
    now: datetime
    """no time may lie after it by more than a day"""
    is_timed: bool = False
    """whether a row without a time has come just now"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRow:
    """A prediction of a log, before its payload is fetched."""

    id: str
    created_at: datetime
    answer: Json
    payload: bytes | None
    where: str
    """path or address of the payload where it is not here"""
    media_type: str
    """"" : by its name and first bytes"""
    confidence: float | None
    embedding: Array | None
    model: str
    latency_ms: float
    metadata: dict[str, Json]


def fields_of(row: Mapping[str, Any], kind: Kind, reading: Reading) -> dict[str, Any]:
    """The values of a row by field; an empty cell counts as absent.

    Raises:
        RejectedError: the row has a column that is not known.
    """
    found: dict[str, Any] = {}
    for column, value in row.items():
        name = reading.columns.get(column, _SAME.get(column, column))
        if name.startswith(_METADATA) and kind == "predictions":
            if value is not None:
                found.setdefault("metadata", {})[name.removeprefix(_METADATA)] = value
        elif name in FIELDS[kind]:
            if value is not None and not (reading.are_texts and value == ""):
                found[name] = value
        elif column not in reading.ignored:
            _reject(f"unknown column {column[:60]!r}")
    return found


def read_prediction(row: Mapping[str, Any], reading: Reading) -> PredictionRow:
    """The prediction of a row.

    Raises:
        RejectedError: a value is missing or cannot be.
    """
    given = fields_of(row, "predictions", reading)
    texts = reading.are_texts
    if "answer" not in given:
        _reject("answer is missing")
    payload, where, media_type = _payload(given)
    kind = given.get("media_type", media_type)
    if not isinstance(kind, str) or len(kind) > _MOST_MEDIA_TYPE:
        _reject("media_type is no text such as image/png")
    metadata = _json(given["metadata"], texts=texts) if "metadata" in given else {}
    if not isinstance(metadata, dict) or not is_storable(metadata):
        _reject("metadata is no JSON object")
    answer = _answer(given["answer"], reading)
    if not is_storable(answer):
        _reject("answer is no JSON that can be stored: it holds a NaN, an infinity or a NUL")
    return PredictionRow(
        id=_id(given),
        created_at=_time(given.get("time"), reading),
        answer=answer,
        payload=payload,
        where=where,
        media_type=kind,
        confidence=_number(given, "confidence", 1.0),
        embedding=_embedding(given.get("embedding"), texts=texts),
        model=_text(given, "model", _MOST_MODEL) or UNKNOWN_MODEL,
        latency_ms=_number(given, "latency_ms", math.inf) or 0.0,
        metadata=metadata,
    )


def read_feedback(row: Mapping[str, Any], reading: Reading) -> Feedback:
    """The feedback of a row.

    Raises:
        RejectedError: a value is missing or cannot be.
    """
    given = fields_of(row, "feedback", reading)
    try:
        kind = FeedbackKind(given.get("kind", FeedbackKind.OUTCOME))
    except ValueError:
        _reject(f"kind is none of {', '.join(FeedbackKind)}")
    about, value = _id(given), _value(kind, given.get("value"), reading)
    return Feedback(
        id=feedback_id(about, kind, value),
        prediction_id=about,
        kind=kind,
        value=value,
        source=_text(given, "source", _MOST_SOURCE),
        created_at=_time(given.get("time"), reading),
    )


def _reject(reason: str) -> NoReturn:
    raise RejectedError(reason)


def _id(given: Mapping[str, Any]) -> str:
    value = given.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_ID or not value.isprintable():
        _reject(f"id is missing, or no text of 1 to {_MOST_ID} characters")
    return prediction_id(value)


def _text(given: Mapping[str, Any], name: str, most: int) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        _reject(f"{name} is no text of at most {most} characters")
    return value


def _time(value: Any, reading: Reading) -> datetime:
    if value is None and reading.is_timed:
        return reading.now
    if value is None:
        _reject("time is missing")
    if isinstance(value, str):
        value = _parsed_time(value)
    if isinstance(value, bool) or not isinstance(value, datetime | int | float):
        _reject("time is no time; write 2026-03-01T02:00:00Z or seconds since 1970")
    try:
        if not isinstance(value, datetime):
            seconds = value / 1e3 if abs(value) > _MILLISECONDS else value
            value = datetime.fromtimestamp(seconds, UTC)
        elif value.tzinfo is None:
            if reading.zone is None:
                _reject("time has no time zone; give --timezone Europe/Berlin, or write one")
            value = value.replace(tzinfo=ZoneInfo(reading.zone))
        found: datetime = value.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        _reject("time is outside the calendar")
    if found > reading.now + _AHEAD:
        _reject("time lies in the future")
    return found


def _parsed_time(text: str) -> datetime | float | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    return _parsed_number(text)


def _parsed_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(given: Mapping[str, Any], name: str, most: float) -> float | None:
    value: Any = given.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        value = _parsed_number(value)
    if is_number(value) and 0 <= value <= most:
        return float(value)
    _reject(f"{name} is no number in 0..1" if most == 1 else f"{name} is no number from 0 up")


def _embedding(value: Any, *, texts: bool) -> Array | None:
    if value is None:
        return None
    try:
        found = np.asarray(_json(value, texts=texts), dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        _reject("embedding is no list of numbers")
    if found.ndim != 1 or not 0 < len(found) <= _MOST_NUMBERS or not np.isfinite(found).all():
        _reject("embedding is no list of finite numbers")
    return found


def _json(value: Any, *, texts: bool) -> Any:
    """The value of a cell of a table without types, which holds JSON."""
    if not texts or not isinstance(value, str):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


def _answer(value: Any, reading: Reading) -> Json:
    if not reading.are_texts or not isinstance(value, str):
        return value
    is_json = value.lstrip()[:1] in ("{", "[", '"')
    return _json(value, texts=is_json or reading.are_numbers)


def _value(kind: FeedbackKind, value: Any, reading: Reading) -> Json:
    if kind is FeedbackKind.OUTCOME:
        if isinstance(value, str) and reading.are_texts:
            lower = value.lower()
            value = True if lower in _TRUE else False if lower in _FALSE else value
        if not isinstance(value, bool):
            _reject("value of an outcome is neither true nor false")
        return value
    if kind is FeedbackKind.RATING:
        rating = _number({"value": value}, "value", 1.0)
        return _reject("value of a rating is missing") if rating is None else rating
    found = None if value is None else _answer(value, reading)
    if found is None or not is_storable(found):
        _reject("value of a correction is no JSON that can be stored")
    return found


def _payload(given: Mapping[str, Any]) -> tuple[bytes | None, str, str]:
    """The payload of a row or where it is, and its media type as far as the row says it."""
    names = [name for name in _EXACTLY_ONE if name in given]
    if len(names) != 1:
        _reject(f"it has {' and '.join(names) or 'none'} of {', '.join(_EXACTLY_ONE)}; give one")
    value = given[names[0]]
    if names[0] == "input" and not isinstance(value, str):
        if isinstance(value, bytes):
            return value, "", ""
        if not is_storable(value):
            _reject("input is no JSON")
        return canonical(value).encode(), "", "application/json"
    if not isinstance(value, str) or not value or "\0" in value:
        _reject(f"{names[0]} is no text")
    if names[0] == "input":
        return value.encode(), "", "text/plain"
    if names[0] != "base64":
        return None, value, ""
    try:
        return base64.b64decode(value, validate=True), "", ""
    except (binascii.Error, ValueError):
        _reject("base64 is no base64")


def text_hash(*texts: str) -> str:
    """A short name of some texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:40]
