"""Frozen records to JSON and back, by their annotations alone.

One small codec for all records, so that a new field needs no new code. Refuses to know any
record by name, and refuses numbers that JSON cannot say.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from datetime import datetime
from typing import Any, TypeVar, Union

from flywheel.records import Json

T = TypeVar("T")

_UNIONS = (Union, types.UnionType)


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
    return typing.cast("T", _read(kind, value, kind.__name__))


def _read(kind: Any, value: Json, where: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in _UNIONS:
        return _read_union(arguments, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is dict:
        _check(isinstance(value, dict), "an object", value, where)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, where)
    return _read_plain(kind, value, where)


def _read_record(kind: Any, value: Json, where: str) -> Any:
    _check(isinstance(value, dict), "an object", value, where)
    hints = _hints(kind)
    unknown = value.keys() - hints.keys()
    _check(not unknown, f"the fields {', '.join(hints)}", sorted(unknown), where)
    for item in dataclasses.fields(kind):
        has_default = (item.default, item.default_factory) != (dataclasses.MISSING,) * 2
        _check(item.name in value or has_default, f"the field {item.name}", sorted(value), where)
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in value})


def _read_union(kinds: tuple[Any, ...], value: Json, where: str) -> Any:
    """`X | None`, and plain unions of which at most one is no text or number."""
    if value is None and types.NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not types.NoneType]
    _check(value is not None, "no null", value, where)
    fitting = [kind for kind in rest if isinstance(kind, type) and type(value) is kind]
    return _read((fitting or rest)[0], value, where)


def _read_tuple(kinds: tuple[Any, ...], value: Json, where: str) -> tuple[Any, ...]:
    _check(isinstance(value, list), "a list", value, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _check(len(kinds) == len(value), f"{len(kinds)} items", value, where)
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _read_plain(kind: Any, value: Json, where: str) -> Any:
    if issubclass(kind, enum.Enum):
        known = [member.value for member in kind]
        _check(value in known, f"one of {known}", value, where)
        return kind(value)
    if kind is datetime:
        _check(isinstance(value, str), "a time", value, where)
        return datetime.fromisoformat(value)
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _check(is_number, "a number", value, where)
        return float(value)
    _check(type(value) is kind, f"{kind.__name__}", value, where)
    return value


def _check(fits: bool, allowed: str, value: Json, where: str) -> None:
    if not fits:
        raise ValueError(
            f"{where} is {value!r}, not {allowed}; "
            "was the ledger written by another version of flywheel?"
        )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
