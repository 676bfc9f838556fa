"""What the columns of a table are, and the labeled samples that its rows make.

A row's sample is a text column, a file that a column names, or all columns that have no other role as
a JSON object. Which column is what is guessed by its name, and every guess is a note of the file.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from flywheel.label_files.reading import (
    file_sample,
    has_media_suffix,
    inside,
    media_type_of,
    text_sample,
)
from flywheel.label_files.rows import Columns, FileRow, LabelFile, LeftOut, part_of, refuse
from flywheel.records import TRAIN_ONLY, Json, Sample, canonical

_ANSWERS = ("answer", "label", "labels", "class", "category", "target", "annotation", "y")
_FILES = (
    *("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path"),
    *("img", "picture", "audio", "video", "document"),
)
_TEXTS = ("text", "sentence", "message", "content", "input", "utterance", "review", "html")
_GROUPS = ("group", "group_id")
_SPLITS = ("split", "subset", "partition")
_OUR_OWN = {"id", "file", "media_type", "answer", "split", "origin", "weight"}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_NAMED = 12
"""columns that a message lists"""
_LOOKED_AT = 50
"""rows in which a value of a column is looked for"""
_LONGEST_PATH = 4_096

Record = Mapping[str, Any]
_Way = Literal["file", "bytes", "text", "fields"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table before its columns have a meaning."""

    path: Path
    format: str
    header: tuple[str, ...]
    records: Callable[[], Iterator[tuple[str, Record]]]
    """yields each row's place and its values by column"""
    notes: tuple[str, ...] = ()
    is_text: bool = False
    """whether all values are cells without a type"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Roles:
    """What the columns of a table are."""

    way: _Way
    input: str | None
    """None: all columns without another role, as a JSON object"""
    answer: str
    group: str | None
    split: str | None
    others: tuple[str, ...]
    """columns of the header without a role"""
    numbers: frozenset[str] = frozenset()
    """columns of cells that are all numbers"""
    is_ours: bool = False
    """whether `flywheel dataset export` wrote it"""

    def rest(self, record: Record) -> list[str]:
        """Return the columns of a row without a role; rows of JSON may differ in theirs."""
        taken = {self.input, self.answer, self.group, self.split}
        return [name for name in record if name not in taken]


def labels_of(table: Table, columns: Columns) -> LabelFile:
    """Return the labels of a table, its columns having their roles.

    Raises:
        UserError: a column that is needed, or that `columns` names, is not there.
    """
    roles = _roles(table, columns)
    base = table.path.parent

    def rows() -> Iterator[FileRow | LeftOut]:
        for place, record in table.records():
            yield _row(table, roles, base, place, record)

    return LabelFile(
        path=table.path, format=table.format, notes=(*table.notes, *_said(roles)), rows=rows
    )


def _roles(table: Table, columns: Columns) -> _Roles:
    is_ours = set(table.header) >= _OUR_OWN and not table.is_text
    usual = columns.usual or Columns()
    answer = _column(table, "answer", columns, (usual.answer, *_ANSWERS))
    if answer is None:
        listed = ", ".join(table.header[:_NAMED])
        refuse(
            str(table.path),
            f"which column is the answer? It has {listed}",
            f"Give {columns.how('answer')}",
        )
    group = _column(table, "group", columns, _GROUPS)
    split = _column(table, "split", columns, (usual.split, *_SPLITS))
    taken = {answer, group, split}
    if usual.input in {*table.header} - taken:
        columns = replace(columns, input=columns.input or usual.input)
    way, column = _input(table, columns, taken)
    others = tuple(name for name in table.header if name not in taken | {column})
    if way == "fields" and not others:
        refuse(
            str(table.path),
            "no column is left for the input",
            f"Give {columns.how('input')}",
        )
    return _Roles(
        way=way,
        input=column,
        answer=answer,
        group=group,
        split=split,
        others=others,
        numbers=_numbers(table, others) if way == "fields" and table.is_text else frozenset(),
        is_ours=is_ours,
    )


def _column(table: Table, role: str, columns: Columns, usual: Sequence[str | None]) -> str | None:
    """Return the column that is wanted, else one of a usual name."""
    wanted: str | None = getattr(columns, role)
    if wanted is not None:
        if wanted not in table.header:
            listed = ", ".join(table.header[:_NAMED])
            refuse(
                str(table.path),
                f"it has no column {wanted!r}, but {listed}",
                f"Give {columns.how(role)}",
            )
        return wanted
    lower = {name.lower(): name for name in reversed(table.header)}
    names = [name for name in usual if name]
    if names and names[0] in table.header:  # as it is written, before other spellings
        return names[0]
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _input(table: Table, columns: Columns, taken: set[str | None]) -> tuple[_Way, str | None]:
    """Return how a row's sample is found, and in which column.

    Texts that are all that a table has beside the answers are samples, whatever their column's name.
    """
    column = _column(table, "input", columns, ())
    if column is not None:
        return _way(table, column, is_named=True) or "text", column
    lower = {name.lower(): name for name in reversed(table.header) if name not in taken}
    for name in _FILES:
        if name in lower and (way := _way(table, lower[name])) is not None:
            return way, lower[name]
    for name in _TEXTS:
        if name in lower and isinstance(_first(table, lower[name]), str):
            return "text", lower[name]
    rest = [name for name in table.header if name not in taken]
    if len(rest) == 1 and isinstance(_first(table, rest[0]), str) and _holds_words(table, rest[0]):
        return _way(table, rest[0]) or "text", rest[0]
    return "fields", None


def _way(table: Table, column: str, *, is_named: bool = False) -> _Way | None:
    """Return whether a column holds files, by its first value."""
    value = _first(table, column)
    if isinstance(value, bytes) or (isinstance(value, Mapping) and "bytes" in value):
        return "bytes"
    if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST_PATH:
        return None
    if "://" not in value and (table.path.parent / value.replace("\\", "/")).is_file():
        return "file"
    is_named = is_named or column.lower() in _FILES
    return "file" if is_named and has_media_suffix(value) and "\n" not in value else None


def _first(table: Table, column: str) -> Any:
    """Return the first value of a column that is not empty."""
    values = (record.get(column) for _, record in itertools.islice(table.records(), _LOOKED_AT))
    return next((value for value in values if value not in (None, "")), None)


def _holds_words(table: Table, column: str) -> bool:
    """Return whether one of the first values of a column is a text and no number."""
    for _, record in itertools.islice(table.records(), _LOOKED_AT):
        value = record.get(column)
        if isinstance(value, str) and value:
            try:
                float(value)
            except ValueError:
                return True
    return False


def _numbers(table: Table, names: Sequence[str]) -> frozenset[str]:
    """Return the columns whose cells are all numbers or empty, one at least a number."""
    left, found = set(names), set[str]()
    for _, record in table.records():
        for name in tuple(left):
            cell = record[name].strip()
            if cell and not (_NUMBER.fullmatch(cell) and math.isfinite(float(cell))):
                left.discard(name)
            elif cell:
                found.add(name)
    return frozenset(left & found)


def _said(roles: _Roles) -> Iterator[str]:
    if roles.way == "fields":
        yield f"a sample is a JSON object of the columns {', '.join(roles.others[:_NAMED])}"
    else:
        kind = "the text of" if roles.way == "text" else "the file in"
        yield f"a sample is {kind} the column {roles.input!r} (input)"
    yield f"the answer is the column {roles.answer!r} (answer)"
    if roles.group is not None:
        yield f"the group is the column {roles.group!r} (group)"
    if roles.split is not None:
        yield f"the split is the column {roles.split!r} (split)"


def _row(table: Table, roles: _Roles, base: Path, place: str, record: Record) -> FileRow | LeftOut:
    if roles.is_ours and record.get("origin") in TRAIN_ONLY:
        return LeftOut(
            place=place, reason="it is no label by annotators, but of a sensor or an outcome"
        )
    answer = _plain(record.get(roles.answer), f"{place}, column {roles.answer}")
    if answer is None or answer == "":
        return LeftOut(place=place, reason="it has no answer")
    sample = _sample(table, roles, base, place, record)
    if isinstance(sample, LeftOut):
        return sample
    group = record.get(roles.group) if roles.group is not None else None
    split = record.get(roles.split) if roles.split is not None else None
    return FileRow(
        place=place,
        sample=sample,
        field=f"column {roles.answer}",
        answer=_of_cell(answer) if table.is_text else answer,
        is_text=table.is_text and isinstance(answer, str),
        group=None
        if group in (None, "")
        else _group(_plain(group, f"{place}, column {roles.group}")),
        part=part_of(split, f"{place}, column {roles.split}"),
    )


def _group(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value)


def _of_cell(text: str) -> Json:
    """Return the answer in a cell: a list or an object is JSON."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _sample(
    table: Table, roles: _Roles, base: Path, place: str, record: Record
) -> Sample | LeftOut:
    """Return the sample of a row, or why there is none."""
    if roles.way == "fields":
        cells = {
            name: _plain(record[name], f"{place}, column {name}") for name in roles.rest(record)
        }
        if table.is_text:
            cells = {name: _typed(cell, name in roles.numbers) for name, cell in cells.items()}
        return Sample.of(canonical(cells).encode(), "application/json")
    where = f"{place}, column {roles.input}"
    value, metadata = record.get(str(roles.input)), _metadata(roles, place, record)
    if value is None or value == "":
        return LeftOut(place=place, reason="it has no input")
    if roles.way == "bytes":
        return _of_bytes(value, where, metadata)
    if not isinstance(value, str):
        refuse(where, f"{value!r:.40} is no text", "Correct it there")
    if roles.way == "text":
        return text_sample(value, where, metadata)
    path = inside(base, value, where)
    if not path.is_file():
        return LeftOut(place=place, reason="its file is missing")
    sample = file_sample(path, metadata)
    return _as_exported(sample, record, where) if roles.is_ours else sample


def _as_exported(sample: Sample, record: Record, where: str) -> Sample:
    if record["id"] != sample.id:
        refuse(where, "the file has other bytes than when it was exported", "Export it again")
    return Sample.of(sample.payload, str(record["media_type"]), sample.metadata)


def _of_bytes(value: Any, where: str, metadata: dict[str, Json]) -> Sample | LeftOut:
    payload = value if isinstance(value, bytes) else value.get("bytes")
    if not isinstance(payload, bytes):
        return LeftOut(place=where, reason="its bytes are not in the file")
    name = "" if isinstance(value, bytes) else str(value.get("path") or "")
    return Sample.of(payload, media_type_of(name, payload), metadata)


def _metadata(roles: _Roles, place: str, record: Record) -> dict[str, Json]:
    """Return the columns without a role, those of an inner object by their own names."""
    found = dict[str, Json]()
    for name in roles.rest(record):
        value = record[name]
        if roles.is_ours and name != "metadata":
            continue
        if name == "metadata" and isinstance(value, Mapping):
            found |= {key: _plain(inner, f"{place}, metadata") for key, inner in value.items()}
        elif value not in (None, ""):
            found[name] = _plain(value, f"{place}, column {name}")
    return found


def _typed(cell: str, is_number: bool) -> Json:
    """Return the value of a cell of a table of fields."""
    if not cell.strip():
        return None
    return json.loads(cell) if is_number else cell


def _plain(value: Any, place: str) -> Json:
    """Return a value as JSON.

    Raises:
        UserError: JSON has no such value.
    """
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and math.isnan(value):  # how tables say that a number is missing
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, place) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, place) for inner in value]
    try:
        canonical(value)
    except (TypeError, ValueError):
        refuse(place, f"{value!r:.40} is no JSON value", "Correct it, or leave the column out")
    return value
