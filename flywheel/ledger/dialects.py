"""What SQLite and PostgreSQL do differently: times with a zone, the order of commits, long lists of ids.

Classes that were renamed are read by their new name here, too: labels keep the one that they were given.

Times have their zone in Python and are stored in UTC.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ClauseElement,
    Connection,
    DateTime,
    Dialect,
    Insert,
    Table,
    TypeDecorator,
    cast,
    func,
    select,
)
from sqlalchemy.ext.compiler import compiles

from flywheel.records import Json

T = TypeVar("T")

RENAME = "flywheel_rename"
"""where a ledger's dialect keeps the renamer of answers"""


class Utc(TypeDecorator[datetime]):
    """A time with its zone, stored in UTC; SQLite would otherwise forget the zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Aware time -> naive UTC."""
        del dialect
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; pass datetime.now(UTC) or the like")
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Naive UTC -> aware time."""
        del dialect
        return value and value.replace(tzinfo=UTC)


class Renamer:
    """Renames every class in an answer: the answer itself, or what lists and dicts in it hold."""

    def __init__(self, pairs: Sequence[tuple[Json, Json]] = ()) -> None:
        self.pairs = tuple(pairs)
        """old and new name, in the order in which they were given"""

    def __call__(self, answer: Json) -> Json:
        """The answer with the names of now."""
        for old, new in self.pairs:
            answer = _replace(answer, old, new)
        return answer


def holds(answer: Json, name: Json) -> bool:
    """Whether an answer names a class."""
    if isinstance(answer, dict):
        return any(holds(item, name) for pair in answer.items() for item in pair)
    if isinstance(answer, list):
        return any(holds(item, name) for item in answer)
    return _is_same(answer, name)


def _replace(value: Json, old: Json, new: Json) -> Json:
    if isinstance(value, dict):
        return {_replace(key, old, new): _replace(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, old, new) for item in value]
    return new if _is_same(value, old) else value


def _is_same(one: Json, other: Json) -> bool:
    return type(one) is type(other) and bool(one == other)


class Answers(TypeDecorator[Any]):
    """An answer as JSON, read with the names that its classes have now.

    So no reader can forget to; the rows stay as they were written. What comes back from Label Studio under
    the old name is renamed before it is parsed.
    """

    impl = JSON
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare as JSON does."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:
        """The answer, renamed."""
        rename = getattr(dialect, RENAME, None)
        return value if rename is None or value is None else rename(value)


def keep_commit_order(connection: Connection, table: Table) -> None:
    """Let the table's `seq` grow in the order of commits, until this transaction ends.

    Watermarks need it: a row that became visible behind one would never be read. SQLite has
    one writer at a time anyway; on PostgreSQL the writers of one table queue up here.
    """
    if connection.dialect.name == "postgresql":
        key = zlib.crc32(f"flywheel/{table.name}".encode())
        connection.execute(select(func.pg_advisory_xact_lock(cast(key, BigInteger))))


def in_parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parts that fit in one IN (...): both databases limit the parameters of a statement."""
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


class _DoNothing(ClauseElement):
    """ON CONFLICT DO NOTHING, as both databases say it."""

    inherit_cache = True
    _traverse_internals: list[Any] = []  # noqa: RUF012 - as the base class declares it


@compiles(_DoNothing)
def _do_nothing(*_: Any, **__: Any) -> str:
    return "ON CONFLICT DO NOTHING"


class _InsertNew(Insert):
    """SQLAlchemy compiles the INSERT of a dialect anew each time, which takes longer than to run it."""

    inherit_cache = True
    _post_values_clause = _DoNothing()


@functools.cache  # building and recognising a statement costs more than running it
def insert_new(table: Table) -> Insert:
    """An INSERT that passes over rows that are there already."""
    return _InsertNew(table)
