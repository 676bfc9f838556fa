"""Frozen records to JSON or a row and back, by their fields alone: a new field needs no new code.

pydantic reads and checks. It does not write: it spells UTC as Z and lets NaN pass, and stored
bytes, of which hashes are made, must stay as they are.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
from datetime import datetime
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy import Row, Table

from flywheel.records import Json

T = TypeVar("T")


def to_json(value: Any) -> Json:
    """A record, or anything that its fields may hold, as JSON.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value is of a kind that is not stored.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be stored; store None where there is no number")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(
        f"{value!r} is a {type(value).__name__}; stored are records, enums, times, tuples, "
        "dictionaries, text and numbers"
    )


def from_json(kind: type[T], value: Json) -> T:
    """The record of this kind that `to_json` wrote; a field that it lacks gets its default.

    Raises:
        ValueError: the JSON does not fit the kind; the message names the field.
    """
    try:
        # As a text, since pydantic is strict with JSON and still makes tuples, enums and times.
        read = _adapter(cast("Any", kind)).validate_json(
            json.dumps(value), strict=True, extra="forbid"
        )
    except ValidationError as error:
        raise ValueError(_reason(kind, error.errors()[0])) from error
    return cast("T", read)


def to_row(table: Table, record: Any, /, **others: Any) -> dict[str, Any]:
    """The row of a table whose columns are the fields of a record; `others` are not, or differ."""
    names = table.c.keys()
    return {name: getattr(record, name) for name in names if hasattr(record, name)} | others


def from_row(kind: type[T], row: Row[Any], /, **others: Any) -> T:
    """The record, or named tuple, whose fields are columns of a row; `others` are not, or differ."""
    columns = row._mapping  # noqa: SLF001  # SQLAlchemy's public name for it
    names = getattr(kind, "_fields", None) or getattr(kind, "__dataclass_fields__")  # noqa: B009
    return kind(**{name: columns[name] for name in names if name not in others} | others)


@functools.cache  # making an adapter costs more than a thousand readings
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _reason(kind: type[Any], detail: ErrorDetails) -> str:
    """One line: where in the record, what is there, what is allowed."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    where = "".join([kind.__name__, *parts])
    match detail["type"]:
        case "missing":
            found = f"{where} is missing"
        case "unexpected_keyword_argument":
            found = f"{where} is no field of a record of this version"
        case _:
            message = detail["msg"]
            found = f"{where} is {detail['input']!r}, but {message[0].lower()}{message[1:]}"
    return f"{found}. Check whether the ledger was written by another version of flywheel"
