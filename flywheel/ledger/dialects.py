"""What SQLite and PostgreSQL do differently: times with a zone, two statements, long lists of ids.

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
from sqlalchemy.dialects import postgresql, sqlite

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


class Answers(TypeDecorator[Any]):
    """An answer as JSON, read with the names that its classes have now (renames.py)."""

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


def insert_new(connection: Connection, table: Table) -> Insert:
    """An INSERT that passes over rows that are there already."""
    return _insert_new(table, connection.dialect.name)


@functools.cache  # building and recognising a statement costs more than running it
def _insert_new(table: Table, dialect: str) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
