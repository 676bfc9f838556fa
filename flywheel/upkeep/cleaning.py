"""flywheel clean: forgets what [retention] allows and nothing refers to.

Each piece leaves ledger and blobs sound, so it may be killed anywhere and run again. Rows go
before the blobs that they name; what a decision or a label refers to never goes. A dry run reads
the same conditions and changes nothing.
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
from flywheel.upkeep.names import BACKUP_LOCK

NEWEST_PREDICTIONS = 1000
"""that always stay, for canaries"""

_YOUNG = timedelta(days=1)
"""a blob is written before the row that names it; one that is younger stays"""
_PIECE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """One kind of thing that went, or would go."""

    what: str
    number: int
    size: int | None
    """bytes; None where they are not counted"""
    because: str
    """why these went, and what of their kind stays"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """What a cleaning came to."""

    dry_run: bool
    swept: tuple[Swept, ...]
    free_bytes: int
    """inside a SQLite ledger, used again before the file grows"""


def clean(loop: Loop, *, dry_run: bool = False) -> Cleaned:
    """Forget what [retention] allows; without any of its keys only orphan blobs go.

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
    """Up to where predictions may go; None when all stay."""
    days, sensors = loop.project.retention.unused_days, loop.project.sensors
    if days is None:
        return None
    marks = ["feedback collected"]
    if sensors.correction_reliability:
        marks.append(f"{FeedbackKind.CORRECTION} feedback labeled")
    if sensors.outcome_reliability:
        marks.append(f"{FeedbackKind.OUTCOME} feedback labeled")
    before = loop.now() - timedelta(days=days)
    with loop.ledger.read() as connection:
        return horizon(connection, before, tuple(marks), NEWEST_PREDICTIONS)


def _weights(loop: Loop, dry_run: bool) -> Iterator[Swept]:
    newest = loop.project.retention.checkpoints
    if newest is None:
        return
    with loop.ledger.read() as connection:
        spare = spare_weights(connection, newest)
    there = [one for name in spare if (one := loop.blobs.find(name)) and _is_old(loop, one)]
    for one in [] if dry_run else there:
        with loop.ledger.begin() as connection:  # first: what is missing has its reason
            reason = f"its weights were dropped by retention.checkpoints = {newest}"
            add_skip(connection, f"checkpoint {one.name}", reason, None, loop.now())
        loop.blobs.remove(one)
    yield Swept(
        what="weights",
        number=len(there),
        size=sum(one.size for one in there),
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
    """Blobs that nothing names, or would name after what goes before them."""
    with loop.ledger.read() as connection:
        named = mentioned(connection)
    old = (one for one in loop.blobs.stored() if one.name not in named and _is_old(loop, one))
    gone: list[int] = []
    while piece := list(islice(old, _PIECE)):
        samples = _samples_that_stay(loop, [one.name for one in piece], dry_run)
        loose = [one for one in piece if one.name not in samples]
        gone += [one.size for one in loose if dry_run or loop.blobs.remove(one)]
    return Swept(
        what="orphan blobs",
        number=len(gone),
        size=sum(gone),
        because="named by nothing in the ledger and older than a day; all others stay",
    )


def _samples_that_stay(loop: Loop, names: list[str], dry_run: bool) -> set[str]:
    """Asked just before blobs go, since a sample may have come meanwhile."""
    upto = _horizon(loop) if dry_run else None
    with loop.ledger.read() as connection:
        there = samples_among(connection, names)
        return there if upto is None else there - forgettable_among(connection, upto, names)


def _is_old(loop: Loop, stored: Stored) -> bool:
    return stored.changed_at is not None and loop.now() - stored.changed_at > _YOUNG


def _free_bytes(loop: Loop) -> int:
    """What a VACUUM of a SQLite ledger would give back to the disk."""
    if loop.ledger.engine.dialect.name != "sqlite":
        return 0
    with loop.ledger.read() as connection:
        pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("freelist_count", "page_size")
        )
    return pages * size
