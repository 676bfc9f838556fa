"""What was understood of a file, before anything of it is stored: its beginning is read, and counted."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from flywheel.errors import UserError
from flywheel.intake.files import LogFile, Row
from flywheel.intake.rows import FIELDS, Kind, Reading, Rejected
from flywheel.intake.store import Placing, Read, read_rows
from flywheel.ledger.intake import Arrived

_LOOKED_AT = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The beginning of a file, as it would be stored."""

    columns: tuple[tuple[str, str], ...]
    """column -> field; "" is ignored"""
    num_rows: int
    """that were looked at"""
    read: tuple[Read, ...]
    rejected: tuple[Rejected, ...]
    models: Counter[str]
    first: datetime | None
    last: datetime | None
    num_without_confidence: int
    num_without_embedding: int


def look_at(log: LogFile, kind: Kind, reading: Reading, placing: Placing) -> Preview:
    """Read the first rows of a file; nothing is stored.

    Raises:
        UserError: the file cannot be read, or has a column that is not known.
    """
    rows = list(itertools.islice(log.rows(), _LOOKED_AT))
    columns = _columns(log, rows, kind, reading)
    found = list(read_rows(rows, kind, reading, placing))
    read = tuple(one for one in found if isinstance(one, Read))
    arrived = [one.entry for one in read if isinstance(one.entry, Arrived)]
    predictions = [one.entry.prediction for one in arrived]
    times = [one.created_at for one in predictions]
    times += [one.entry.created_at for one in read if not isinstance(one.entry, Arrived)]
    return Preview(
        columns=columns,
        num_rows=len(rows),
        read=read,
        rejected=tuple(one for one in found if isinstance(one, Rejected)),
        models=Counter(one.model_digest for one in predictions),
        first=min(times, default=None),
        last=max(times, default=None),
        num_without_confidence=sum(not one.has_confidence for one in arrived),
        num_without_embedding=sum(not one.has_embedding for one in arrived),
    )


def _columns(
    log: LogFile, rows: list[Row], kind: Kind, reading: Reading
) -> tuple[tuple[str, str], ...]:
    """Each column with its field.

    Raises:
        UserError: one is not known, or a mapping names one that is not there.
    """
    names = list(
        dict.fromkeys(
            name for row in rows if not isinstance(row.values, str) for name in row.values
        )
    )
    found, unknown = [], []
    for name in names:
        known = reading.columns.get(name, name)
        if known in FIELDS[kind] or (kind == "predictions" and known.startswith("metadata.")):
            found.append((name, known))
        elif name in reading.ignored:
            found.append((name, ""))
        else:
            unknown.append(name)
    if unknown:
        raise UserError(
            f"{log.address} has the columns {', '.join(map(repr, unknown[:10]))}, which are not known. "
            f"Map each with --map FIELD=COLUMN to one of {', '.join(FIELDS[kind])}, or metadata.NAME; "
            "or pass it over with --ignore COLUMN"
        )
    missing = sorted(set(reading.columns) - set(names)) if names else []
    if missing:
        raise UserError(
            f"{log.address} has no column {missing[0]!r}, which --map names; its first rows have "
            f"{', '.join(names)}. Correct --map"
        )
    return tuple(found)
