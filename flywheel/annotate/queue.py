"""Where a sample stands in the queue: the hardest first, and none waits for ever.

Places that a new model or the time changes are written to the labeling tasks that nobody has
begun; a sample that no longer matters is withdrawn. What makes a sample hard is not known here.
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
"""smaller changes of a place are not worth a request each"""
_CALM = "the model that serves now leaves nothing to suspect in it"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueResult:
    """What became of the queue."""

    num_moved: int = 0
    num_withdrawn: int = 0


def place(priority: float, since: datetime, now: datetime, ageing_nights: float) -> float:
    """The priority of a sample that has waited: half the way to 1 after every `ageing_nights`.

    Formula: 1 - (1 - priority) / 2^(waited / ageing_nights), in 0..1. Samples that came on one
    day keep their order, so a draw by chance stays one by chance.
    """
    waited = max((now - since) / _NIGHT, 0.0)
    left = 1.0 - min(max(priority, 0.0), 1.0)
    return 1.0 - left * math.pow(0.5, waited / ageing_nights)


def targeted(places: Sequence[Place]) -> list[str]:
    """The open samples that were chosen because they are hard.

    The others were drawn by chance, and stay in the queue whatever a model says of them.
    """
    return [
        one.sample_id
        for one in places
        if one.purpose is Purpose.CHOICE and one.share is Share.TARGETED
    ]


def order_queue(
    ledger: Ledger,
    studio: LabelingBackend | None,
    hardness: Mapping[str, float],
    ageing_nights: float,
    now: datetime,
) -> QueueResult:
    """Bring the queue up to date; labeling tasks that somebody has begun stay as they are.

    Args:
        ledger: of the project.
        studio: None when it does not answer; then only what is not sent yet changes.
        hardness: new priority of targeted samples, 0..1; at 0 they are withdrawn.
        ageing_nights: see `place`.
        now: when.

    Raises:
        BusyError: another process is sending.
        UnavailableError: Label Studio stopped answering; run this again.
    """
    with hold(ledger, BACKEND_LOCK, lambda: now):
        with ledger.read() as connection:
            queue = open_places(connection)
        chosen = set(targeted(queue))
        fresh = {key: value for key, value in hardness.items() if key in chosen}
        calm = [
            one
            for one in queue
            if one.is_leaving or (fresh.get(one.sample_id) == 0.0 and one.purpose is Purpose.CHOICE)
        ]
        gone = _take_out(ledger, studio, calm)
        with ledger.begin() as connection:
            withdraw(connection, gone, _CALM, now)
            kept = {key: value for key, value in fresh.items() if value > 0.0}
            move_places(connection, kept, {})
        left = [one for one in queue if one.sample_id not in set(gone)]
        wanted = {
            one: place(kept.get(one.sample_id, one.priority), one.created_at, now, ageing_nights)
            for one in left
        }
        moved = _move(studio, wanted)
        with ledger.begin() as connection:
            move_places(connection, {}, moved)
    return QueueResult(num_moved=len(moved), num_withdrawn=len(gone))


def _take_out(ledger: Ledger, studio: LabelingBackend | None, calm: Sequence[Place]) -> list[str]:
    """Withdraw samples as far as nobody has begun them; which are gone.

    One that is planned and not noted as sent may be there all the same: it stays in the queue.
    """
    unsent = [one.sample_id for one in calm if one.key is None]
    leaving = [one for one in calm if one.external_id is not None]
    if studio is None or not leaving:
        return unsent
    _note(ledger, leaving, _CALM)
    gone, begun = _withdraw(studio, leaving)
    _note(ledger, begun, "")
    return unsent + [one.sample_id for one in gone]


def _note(ledger: Ledger, leaving: Sequence[Place], note: str) -> None:
    """Say what is about to be withdrawn: after a kill, a reconciliation would think that people did it."""
    with ledger.begin() as connection:
        notes = {str(one.key): note for one in leaving}
        update_by_key(connection, {"note": bindparam("value")}, notes)


def _withdraw(studio: LabelingBackend, leaving: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Take labeling tasks out of Label Studio: which are gone, and which stay, since begun.

    A number may have been given out again: what has another key by now is left to a reconciliation.
    """
    gone, begun = list[Place](), list[Place]()
    by_project: dict[int, dict[Place, int]] = defaultdict(dict)
    for one in leaving:
        by_project[int(one.external_project or 0)][one] = int(one.external_id or 0)
    for project, numbers in by_project.items():
        keys = {one.external_id: one.key for one in studio.fetch(project, set(numbers.values()))}
        ours = {one: number for one, number in numbers.items() if keys.get(number) == one.key}
        deleted = studio.delete(project, set(ours.values())) if ours else set()
        gone += [one for one, number in numbers.items() if number not in keys]
        gone += [one for one, number in ours.items() if number in deleted]
        begun += [one for one, number in ours.items() if number not in deleted]
    return gone, begun


def _move(studio: LabelingBackend | None, wanted: Mapping[Place, float]) -> dict[str, float]:
    """Write new places; key -> place of those that have moved."""
    by_project: dict[int, dict[int, float]] = defaultdict(dict)
    keys = dict[int, str]()
    for one, value in wanted.items():
        is_there = one.external_id is not None and one.external_project is not None and one.key
        if is_there and (one.place is None or abs(one.place - value) >= _LEAST_MOVE):
            by_project[int(one.external_project or 0)][int(one.external_id or 0)] = value
            keys[int(one.external_id or 0)] = str(one.key)
    moved = dict[str, float]()
    if studio is not None:
        for project, places in by_project.items():
            moved |= {keys[n]: places[n] for n in studio.reorder(project, places)}
    return moved
