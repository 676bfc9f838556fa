"""flywheel clean: deletes what [retention] allows and nothing refers to.

Each batch leaves ledger and blobs consistent, so a cleaning may be killed anywhere and run again.
Rows are deleted before the blobs that they name; what a decision or a label refers to is never
deleted. A dry run reads the same conditions and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from flywheel.blobs import Stored
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip
from flywheel.ledger.retention import (
    Horizon,
    forget,
    forgettable,
    forgettable_among,
    horizon,
    mentioned,
    samples_among,
    spare_weights,
)
from flywheel.loop import Loop, between_nights
from flywheel.records import FeedbackKind
from flywheel.upkeep.backup import BACKUP_LOCK

NEWEST_PREDICTIONS = 1000
"""number of predictions that always stay, for canaries"""

_YOUNG = timedelta(days=1)
"""a blob is written before the row that names it; one that is younger stays"""
_PIECE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """One kind of thing that was deleted, or would be."""

    what: str
    number: int
    size: int | None
    """bytes; None where they are not counted"""
    because: str
    """why these were deleted, and which of their kind stay"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """The result of a cleaning."""

    dry_run: bool
    swept: tuple[Swept, ...]
    free_bytes: int
    """in a SQLite ledger, reused before the file grows"""


def clean(loop: Loop, *, dry_run: bool = False) -> Cleaned:
    """Delete what [retention] allows; without any of its keys only orphan blobs are deleted.

    Raises:
        BusyError: another process runs the loop of this project, or a back-up is being made.
    """
    with between_nights(loop), hold(loop.ledger, BACKUP_LOCK, loop.now):
        swept = [
            *_predictions(loop, dry_run),
            *_weights(loop, dry_run),
            *_pages(loop, dry_run),
            _orphans(loop, dry_run),
        ]
    return Cleaned(dry_run=dry_run, swept=tuple(swept), free_bytes=_free_bytes(loop))


def _predictions(loop: Loop, dry_run: bool) -> Iterator[Swept]:
    upto = _horizon(loop)
    if upto is None:
        return
    if dry_run:
        with loop.ledger.read() as connection:
            gone = forgettable(connection, upto)
    else:
        gone = forget(loop.ledger, upto)
    days = loop.project.retention.unused_days
    yield Swept(
        what="predictions",
        number=gone.predictions,
        size=None,
        because=f"older than {days} days and read by all who read the log; those of samples that "
        "a failure, choice, label or opening names stay",
    )
    yield Swept(
        what="feedback",
        number=gone.feedback,
        size=None,
        because="on these predictions; all other feedback stays",
    )
    yield Swept(
        what="samples",
        number=gone.samples,
        size=gone.payload_bytes,
        because="left without a prediction; their payloads go with the orphan blobs",
    )


def _horizon(loop: Loop) -> Horizon | None:
    """Up to where predictions may be deleted; None when all stay."""
    days, sensors = loop.project.retention.unused_days, loop.project.sensors
    if days is None:
        return None
    marks = ["feedback collected"]
    if sensors.correction_reliability:
        marks.append(f"{FeedbackKind.CORRECTION} feedback labeled")
    before = loop.now() - timedelta(days=days)
    with loop.ledger.read() as connection:
        return horizon(connection, before, tuple(marks), NEWEST_PREDICTIONS)


def _weights(loop: Loop, dry_run: bool) -> Iterator[Swept]:
    newest = loop.project.retention.checkpoints
    if newest is None:
        return
    with loop.ledger.read() as connection:
        spare = spare_weights(connection, newest)
    old = [blob for name in spare if (blob := loop.blobs.find(name)) and _is_old(loop, blob)]
    for blob in [] if dry_run else old:
        with loop.ledger.begin() as connection:  # first, so that a missing blob has its reason
            reason = f"its weights were dropped by retention.checkpoints = {newest}"
            add_skip(connection, f"checkpoint {blob.name}", reason, None, loop.now())
        loop.blobs.remove(blob)
    yield Swept(
        what="weights",
        number=len(old),
        size=sum(blob.size for blob in old),
        because=f"never released; the {newest} newest such, and those in a challenge, stay",
    )


def _pages(loop: Loop, dry_run: bool) -> Iterator[Swept]:
    days = loop.project.retention.pages_days
    if days is None:
        return
    before = (loop.now() - timedelta(days=days)).timestamp()
    folder = loop.project.state / "reports"
    old = [path for path in sorted(folder.glob("night-*.html")) if _written(path) < before]
    size = sum(path.stat().st_size for path in old)
    for path in [] if dry_run else old:
        path.unlink(missing_ok=True)
    yield Swept(
        what="pages",
        number=len(old),
        size=size,
        because=f"of nights, written more than {days} days ago; flywheel report writes one anew",
    )


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _orphans(loop: Loop, dry_run: bool) -> Swept:
    """Delete blobs that no row names, or would name once the other deletions are done."""
    with loop.ledger.read() as connection:
        named = mentioned(connection)
    old = (blob for blob in loop.blobs.stored() if blob.name not in named and _is_old(loop, blob))
    gone: list[int] = []
    while piece := list(islice(old, _PIECE)):
        samples = _samples_that_stay(loop, [blob.name for blob in piece], dry_run)
        loose = [blob for blob in piece if blob.name not in samples]
        gone += [blob.size for blob in loose if dry_run or loop.blobs.remove(blob)]
    return Swept(
        what="orphan blobs",
        number=len(gone),
        size=sum(gone),
        because="named by nothing in the ledger and older than a day; all others stay",
    )


def _samples_that_stay(loop: Loop, names: list[str], dry_run: bool) -> set[str]:
    """Names of samples, read just before blobs are deleted: a sample may have come meanwhile."""
    upto = _horizon(loop) if dry_run else None
    with loop.ledger.read() as connection:
        there = samples_among(connection, names)
        return there if upto is None else there - forgettable_among(connection, upto, names)


def _is_old(loop: Loop, stored: Stored) -> bool:
    return stored.changed_at is not None and loop.now() - stored.changed_at > _YOUNG


def _free_bytes(loop: Loop) -> int:
    """Bytes that a VACUUM of a SQLite ledger would free on the disk."""
    if loop.ledger.engine.dialect.name != "sqlite":
        return 0
    with loop.ledger.read() as connection:
        pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("freelist_count", "page_size")
        )
    return pages * size
