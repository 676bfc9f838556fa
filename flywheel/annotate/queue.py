"""Orders the annotation queue: the hardest first, with aging so that no sample waits for ever.

Priorities change with the model and with time, and are written to labeling tasks that are not
begun. A sample that the current model no longer finds hard is withdrawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam

from flywheel.annotate.backend import BACKEND_LOCK, LabelingBackend
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.outbox import Place, move_places, open_places, update_by_key, withdraw
from flywheel.records import Purpose, Share

_NIGHT = timedelta(days=1)
_LEAST_MOVE = 0.02
"""smallest change of a place that is worth a request"""
_CALM = "the model that serves now leaves nothing to suspect in it"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueResult:
    """The result of ordering the queue."""

    num_moved: int = 0
    num_withdrawn: int = 0


def place(priority: float, since: datetime, now: datetime, ageing_nights: float) -> float:
    """Return the aged priority of a waiting sample: half-way closer to 1 every `ageing_nights`.

    Formula: 1 - (1 - priority) / 2^(waited / ageing_nights), in 0..1. Samples of the same day
    keep their order, so a random order stays random.
    """
    waited = max((now - since) / _NIGHT, 0.0)
    left = 1.0 - min(max(priority, 0.0), 1.0)
    return 1.0 - left * math.pow(0.5, waited / ageing_nights)


def targeted(places: Sequence[Place]) -> list[str]:
    """Return the open samples that were chosen because they are hard.

    The others were drawn at random and stay in the queue, whatever a model predicts.
    """
    return [
        queued.sample_id
        for queued in places
        if queued.purpose is Purpose.CHOICE and queued.share is Share.TARGETED
    ]


def order_queue(
    ledger: Ledger,
    studio: LabelingBackend | None,
    hardness: Mapping[str, float],
    ageing_nights: float,
    now: datetime,
) -> QueueResult:
    """Update the priorities in the queue; begun labeling tasks stay as they are.

    Args:
        ledger: the project's.
        studio: None if it does not answer; then only unsent samples change.
        hardness: sample id -> new priority of targeted samples, 0..1; at 0 they are withdrawn.
        ageing_nights: see `place`.
        now: current time.

    Raises:
        BusyError: another process is sending.
        UnavailableError: Label Studio does not answer any more; run this again.
    """
    with hold(ledger, BACKEND_LOCK, lambda: now):
        with ledger.read() as connection:
            queue = open_places(connection)
        chosen = set(targeted(queue))
        fresh = {key: value for key, value in hardness.items() if key in chosen}
        calm = [
            queued
            for queued in queue
            if queued.is_leaving
            or (fresh.get(queued.sample_id) == 0.0 and queued.purpose is Purpose.CHOICE)
        ]
        gone = _withdraw(ledger, studio, calm)
        with ledger.begin() as connection:
            withdraw(connection, gone, _CALM, now)
            kept = {key: value for key, value in fresh.items() if value > 0.0}
            move_places(connection, kept, {})
        left = [queued for queued in queue if queued.sample_id not in set(gone)]
        wanted = {
            queued: place(
                kept.get(queued.sample_id, queued.priority), queued.created_at, now, ageing_nights
            )
            for queued in left
        }
        moved = _move(studio, wanted)
        with ledger.begin() as connection:
            move_places(connection, {}, moved)
    return QueueResult(num_moved=len(moved), num_withdrawn=len(gone))


def _withdraw(ledger: Ledger, studio: LabelingBackend | None, calm: Sequence[Place]) -> list[str]:
    """Withdraw samples that are not begun; return those that are gone.

    A planned sample that is not recorded as sent may exist anyway, so it stays in the queue.
    """
    unsent = [queued.sample_id for queued in calm if queued.key is None]
    leaving = [queued for queued in calm if queued.external_id is not None]
    if studio is None or not leaving:
        return unsent
    _note(ledger, leaving, _CALM)
    gone, begun = _delete(studio, leaving)
    _note(ledger, begun, "")
    return unsent + [queued.sample_id for queued in gone]


def _note(ledger: Ledger, leaving: Sequence[Place], note: str) -> None:
    """Record the withdrawal first: after a kill, reconciliation would take it for an annotator's."""
    with ledger.begin() as connection:
        notes = {str(queued.key): note for queued in leaving}
        update_by_key(connection, {"note": bindparam("value")}, notes)


def _delete(studio: LabelingBackend, leaving: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Delete labeling tasks in Label Studio; return those that are gone and those that are begun.

    External ids may be reused: a labeling task that has another key by now is left to
    reconciliation.
    """
    gone, begun = list[Place](), list[Place]()
    by_project: dict[int, dict[Place, int]] = defaultdict(dict)
    for queued in leaving:
        by_project[int(queued.external_project or 0)][queued] = int(queued.external_id or 0)
    for project, numbers in by_project.items():
        there = studio.fetch(project, set(numbers.values()))
        keys = {task.external_id: task.key for task in there}
        ours = {row: number for row, number in numbers.items() if keys.get(number) == row.key}
        deleted = studio.delete(project, set(ours.values())) if ours else set()
        gone += [row for row, number in numbers.items() if number not in keys]
        gone += [row for row, number in ours.items() if number in deleted]
        begun += [row for row, number in ours.items() if number not in deleted]
    return gone, begun


def _move(studio: LabelingBackend | None, wanted: Mapping[Place, float]) -> dict[str, float]:
    """Write new places; return key -> place of those that moved."""
    by_project: dict[int, dict[int, float]] = defaultdict(dict)
    keys = dict[int, str]()
    for row, value in wanted.items():
        is_there = row.external_id is not None and row.external_project is not None and row.key
        if is_there and (row.place is None or abs(row.place - value) >= _LEAST_MOVE):
            by_project[int(row.external_project or 0)][int(row.external_id or 0)] = value
            keys[int(row.external_id or 0)] = str(row.key)
    moved = dict[str, float]()
    if studio is not None:
        for project, places in by_project.items():
            moved |= {keys[number]: places[number] for number in studio.reorder(project, places)}
    return moved
