"""Files of a log, read row by row: JSON Lines, CSV and Parquet, here or at an fsspec address.

A row that cannot be parsed is a reason in its place. The last line of a text that has no end may be
one that is being written: where it cannot be parsed it is left for the next time.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs
from pydantic_core import from_json

from flywheel.errors import UserError
from flywheel.intake.rows import text_hash

_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".log": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_LONGEST_LINE = 1 << 26
"""bytes; a longer line is rejected and not held"""
_LONGEST_SHOWN = 2_000
_ROWS = 2_000
_DELIMITERS = ",;\t|"


class Row(NamedTuple):
    """A row of a file."""

    number: int
    """counted from 1; a header is none"""
    values: Mapping[str, Any] | str
    """or why it cannot be parsed"""
    text: str
    """the row as it came, or its beginning; "" where `values` say it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """A file of a log."""

    address: str
    format: str
    """jsonl, csv or parquet"""
    key: str
    """by which a file is known again: its address and how it begins"""
    size: int | None
    """bytes; None where the store does not report it"""

    @property
    def are_texts(self) -> bool:
        """Whether every value of a row is a text."""
        return self.format == "csv"

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The rows that follow the first so many.

        Raises:
            UserError: the file cannot be read as what it is.
        """
        readers = {"jsonl": _json_rows, "csv": _csv_rows, "parquet": _parquet_rows}
        with _reading(self.address):
            yield from readers[self.format](self.address, after)


def open_log(address: str, wanted: str | None = None) -> LogFile:
    """The file at a path or address.

    Args:
        address: a path, or an address that fsspec knows.
        wanted: jsonl, csv or parquet; None: by its name.

    Raises:
        UserError: it is not there, or its name does not say what it is.
    """
    plain = address
    for suffix in _PACKED:
        plain = plain.removesuffix(suffix)
    found = wanted or _FORMATS.get(Path(plain).suffix.lower())
    if found is None:
        raise UserError(
            f"{address} has no name of a log. Name it .jsonl, .csv or .parquet, or give --as"
        )
    if "://" not in address:
        address = str(Path(address).absolute())
    with _reading(address):
        filesystem, path = url_to_fs(address)
        size = filesystem.info(path).get("size")
        if found == "parquet":
            head = f"{size}"
        else:
            with _bytes(address) as file:
                head = file.readline(65_536).hex()
    return LogFile(address=address, format=found, key=text_hash(address, head), size=size)


@contextmanager
def _reading(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{address} is not there. Name a file of predictions or feedback"
        ) from error
    except IsADirectoryError as error:
        raise UserError(f"{address} is a folder. Name its files") from error
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise UserError(
            f"{address} cannot be read: {' '.join(str(error).split())}. Correct the address, write "
            "the file anew, or say what it is with --as"
        ) from error


def _bytes(address: str) -> Any:
    return fsspec.open(address, "rb", compression="infer")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; of one that is too long the beginning."""
    while line := file.readline(_LONGEST_LINE):
        yield line
        while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE)


def _json_rows(address: str, after: int) -> Iterator[Row]:
    with _bytes(address) as file:
        for number, line in enumerate(itertools.islice(_lines(file), after, None), after + 1):
            row = json_row(number, line)
            is_cut = not line.endswith(b"\n") and len(line) < _LONGEST_LINE
            if is_cut and isinstance(row.values, str):
                return  # it is being written
            yield row


def json_row(number: int, line: bytes) -> Row:
    """The row of a line of JSON Lines."""
    try:
        values = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        return Row(number, _no_json(error) if line.strip() else "the line is empty", _shown(line))
    is_row = isinstance(values, dict)
    return Row(number, values if is_row else "the line is no JSON object", _shown(line))


def _no_json(error: ValueError) -> str:
    """Why a line is no JSON, without the place, so that equal faults have equal reasons."""
    return f"the line is no JSON: {str(error).partition(' at line')[0]}"


def _shown(line: bytes) -> str:
    return line[:_LONGEST_SHOWN].decode(errors="replace").rstrip("\n")


def _csv_rows(address: str, after: int) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_LINE)
    ends = [True]

    def lines(file: IO[bytes]) -> Iterator[str]:
        for number, line in enumerate(_lines(file)):
            ends[0] = line.endswith(b"\n")
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", errors="surrogateescape")
            yield text.replace("\0", "\udc80")

    with _bytes(address) as file:
        every = lines(file)
        first = next(every, "")
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(itertools.chain([first], every), delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]
        if not header or not all(header) or len(set(header)) < len(header):
            raise UserError(
                f"{address} line 1 is no header: {first[:80]!r}. Give each column a name of its own"
            )
        number = 0
        while (cells := _next_cells(reader)) is not None:
            number += 1
            if number <= after:
                continue
            row = _csv_row(number, header, cells)
            if isinstance(row.values, str) and not ends[0]:
                return  # it is being written
            yield row


def _next_cells(reader: Any) -> list[str] | str | None:
    """The cells of the next row; or why it has none; None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"the line is no CSV: {error}"


def _csv_row(number: int, header: list[str], cells: list[str] | str) -> Row:
    if isinstance(cells, str):
        return Row(number, cells, "")
    text = ",".join(cells)
    if not cells:
        return Row(number, "the line is empty", "")
    if not text.isascii() and not _is_utf8(text):
        return Row(number, "the line is no UTF-8, or holds a NUL", _plain(text))
    if len(cells) != len(header):
        return Row(number, "the line has another number of fields than the header", _plain(text))
    return Row(number, dict(zip(header, cells, strict=True)), "")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(text: str) -> str:
    return text[:_LONGEST_SHOWN].encode(errors="replace").decode()


def _parquet_rows(address: str, after: int) -> Iterator[Row]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(
            f"{address}: pyarrow reads Parquet and is not installed. pip install 'flywheel[parquet]'"
        ) from error
    with fsspec.open(address, "rb") as file:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=_ROWS):
            if number + len(batch) <= after:
                number += len(batch)
                continue
            for values in batch.to_pylist():
                number += 1
                if number > after:
                    yield Row(number, values, "")
