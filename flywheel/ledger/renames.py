"""Classes that were renamed: labels keep the name that they were given, and are read by the new one.

Every answer of a label, an annotation or a prediction is renamed as it is read (`Answers` in
dialects.py), so that no reader can forget to; the rows stay as they were written. What comes back
from Label Studio under the old name is renamed before it is parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import renames, watermarks
from flywheel.records import Json


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


def add_rename(connection: Connection, old: Json, new: Json, now: datetime) -> None:
    """Store a rename; annotations that were refused are read again, as they may be answers now."""
    connection.execute(insert(renames), {"old": old, "new": new, "at": now})
    again = update(given).where(given.c.refused.is_not(None))
    connection.execute(again.values(updated_at=datetime.fromtimestamp(0, now.tzinfo)))
    labeling = watermarks.c.name.like("label studio project %")
    connection.execute(update(watermarks).where(labeling).values(seq=0))


def read_renames(connection: Connection) -> Renamer:
    """All renames, in their order."""
    rows = connection.execute(select(renames.c.old, renames.c.new).order_by(renames.c.seq))
    return Renamer([(row.old, row.new) for row in rows])


def _replace(value: Json, old: Json, new: Json) -> Json:
    if isinstance(value, dict):
        return {_replace(key, old, new): _replace(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, old, new) for item in value]
    return new if _is_same(value, old) else value


def _is_same(one: Json, other: Json) -> bool:
    return type(one) is type(other) and bool(one == other)
