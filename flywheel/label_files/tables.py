"""Readers of tables: CSV, JSON Lines (and what `flywheel dataset export` writes), and Parquet."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.errors import UserError
from flywheel.label_files.columns import Record, Table, labels_of
from flywheel.label_files.reading import decoded, parse_json
from flywheel.label_files.rows import Columns, LabelFile, refuse
from flywheel.records import Json

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
_LOOKED_AT = 50
"""rows by which a delimiter is chosen"""
_LONGEST_FIELD = 1 << 27


def read_csv(path: Path, columns: Columns) -> LabelFile:
    """Read a table of text with a header: CSV, or with semicolons, tabs or bars.

    Raises:
        UserError: the header is unusable, a row has another number of fields, or a column is missing.
    """
    encoding, notes = _encoding(path)
    delimiter = _delimiter(path, encoding)
    if delimiter != ",":
        notes = (*notes, f"fields are separated by {_DELIMITERS[delimiter]}")
    header = _header(path, next(_cells(path, encoding, delimiter), ("", []))[1])

    def records() -> Iterator[tuple[str, Record]]:
        for place, cells in itertools.islice(_cells(path, encoding, delimiter), 1, None):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                todo = "Correct the line, or quote fields that hold the separator"
                refuse(place, f"{len(cells)} fields, the header has {len(header)}", todo)
            yield place, dict(zip(header, cells, strict=True))

    return labels_of(
        Table(path=path, format="csv", header=header, records=records, notes=notes, is_text=True),
        columns,
    )


def read_jsonl(path: Path, columns: Columns) -> LabelFile:
    """Read JSON Lines, a JSON list of objects, or the folder that a dataset was exported to.

    Raises:
        UserError: a line is no JSON object, or a column is missing.
    """
    path = path / "rows.jsonl" if path.is_dir() else path
    # All rows are looked at: a split that only the last one names is a column too.
    header = tuple(dict.fromkeys(name for _, record in _objects(path) for name in record))
    if not header:
        refuse(str(path), "it holds no object", "Write one JSON object a line")
    table = Table(path=path, format="jsonl", header=header, records=lambda: _objects(path))
    return labels_of(table, columns)


def read_parquet(path: Path, columns: Columns) -> LabelFile:
    """Read a Parquet file; a struct of bytes and path, as of a data set of pictures, is a file.

    Raises:
        UserError: pyarrow is missing, the file cannot be read, or a column is missing.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(
            f"{path}: pyarrow reads Parquet and is not installed. pip install 'flywheel[parquet]'"
        ) from error
    try:
        header = tuple(parquet.ParquetFile(path).schema_arrow.names)
    except pa.ArrowInvalid as error:
        refuse(str(path), f"no Parquet ({error})", "Write it anew")

    def records() -> Iterator[tuple[str, Record]]:
        numbers = itertools.count(1)
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1_000):
            for record in batch.to_pylist():
                yield f"{path} row {next(numbers)}", record

    return labels_of(Table(path=path, format="parquet", header=header, records=records), columns)


def _encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the encoding of a text, and a note where it is not UTF-8."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16", ("it is in UTF-16",)
    name = next(name for name in _ENCODINGS if _is_in(path, name))
    if name == "utf-8-sig":
        return name, ()
    said = "Latin-1" if name == "latin-1" else "Windows-1252, a kind of Latin-1"
    return name, (f"it is no UTF-8 and is read as {said}; see that its texts are right",)


def _is_in(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            for block in iter(lambda: file.read(1 << 20), b""):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _delimiter(path: Path, encoding: str) -> str:
    """Return the delimiter by which the first rows have the same number of fields, and most."""

    def width(delimiter: str) -> tuple[bool, int]:
        try:
            rows = list(itertools.islice(_cells(path, encoding, delimiter), _LOOKED_AT))
        except UserError:
            return False, 0
        widths = {len(cells) for _, cells in rows if cells}
        return len(widths) == 1, max(widths, default=0) if len(widths) == 1 else 0

    by_rows = max(_DELIMITERS, key=width)
    if width(by_rows)[1] > 1:
        return by_rows
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline(_LONGEST_FIELD)
    return max(_DELIMITERS, key=first.count)  # a row is broken; its message names it


def _cells(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the cells of each row, the header too."""
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            place = f"{path} line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                refuse(place, f"{error}", "Check the quotes of this line and of those after it")
            yield place, cells


def _header(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    place = f"{path} line 1"
    if not any(names):
        refuse(place, "no header", "Write the names of the columns there")
    for number, name in enumerate(names, start=1):
        if not name:
            refuse(place, f"column {number} has no name", "Name it, or delete the column")
        if names.count(name) > 1:
            refuse(place, f"two columns are named {name!r}", "Rename one of them")
    return names


def _objects(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the place and the object of each line, or of each item of a list."""
    for place, item in _items(path):
        if not isinstance(item, dict):
            refuse(place, f"{json.dumps(item):.40} is no object", "Write one JSON object a line")
        yield place, item


def _items(path: Path) -> Iterator[tuple[str, Json]]:
    with path.open("rb") as file:
        beginning = file.read(64)
        file.seek(0)
        if beginning.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            for number, item in enumerate(parse_json(decoded(path), str(path)), start=1):
                yield f"{path} row {number}", item
            return
        if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            refuse(str(path), "it is in UTF-16", "Save it as UTF-8")
        for number, line in enumerate(file, start=1):
            place = f"{path} line {number}"
            if text := _utf8(line, place).strip():
                yield place, parse_json(text, place)


def _utf8(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        refuse(place, "it is no UTF-8", "Save it as UTF-8")
