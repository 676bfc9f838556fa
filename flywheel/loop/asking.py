"""Samples that a person wants annotators to look at: queued within the night's budget, with a reason.

The random share stays what it was. A sample that it has not been drawn from yet waits until then, one
whose group can only test is left to the draw, and the budget of the targeted share is the most that is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from flywheel.annotate import affordable_answers
from flywheel.ledger.annotations import is_brought, newest_labels
from flywheel.ledger.batches import add_batch
from flywheel.ledger.browse import Seen, cases_of
from flywheel.ledger.failures import move_failures
from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.requests import answers_asked, ask_more
from flywheel.ledger.reviews import how_asked, reviewed
from flywheel.ledger.samples import sides_of
from flywheel.ledger.tables import samples
from flywheel.ledger.windows import watermark
from flywheel.loop.context import Loop, between_nights
from flywheel.records import (
    Batch,
    Choice,
    FailureState,
    Label,
    Purpose,
    Share,
    Split,
    canonical,
    content_id,
)

_MARK = "selected"
"""up to where the random share has been drawn"""
_FIRST_IN_LINE = 1.0
_LONGEST = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What became of the samples that a person wants looked at."""

    queued: tuple[str, ...]
    left_out: Mapping[str, str]
    """sample id -> why it was not queued"""
    left: int
    """samples that the budget still has room for"""


def queue_for_annotation(loop: Loop, sample_ids: Sequence[str], reason: str) -> Wanted:
    """Queue samples for annotation; the next run that sends labeling tasks sends them.

    Raises:
        BusyError: a night runs.
    """
    settings = loop.project.labeling
    each = settings.annotations_per_sample
    most = round(settings.samples_per_night * (1 - settings.probability_share)) * each
    with between_nights(loop) as night, loop.ledger.begin() as connection:
        seen = cases_of(connection, sample_ids)
        faults = dict(_not_to_choose(connection, sample_ids, seen))
        free = [key for key in dict.fromkeys(sample_ids) if key not in faults]
        room = _room(loop, connection, night.number, most, Purpose.CHOICE) // each
        chosen = tuple(_choice(seen[key], reason, each) for key in free[:room])
        if chosen:
            _store(connection, chosen, night.number, loop)
    return Wanted(
        queued=tuple(choice.sample_id for choice in chosen),
        left_out=faults | dict.fromkeys(free[room:], _spent(most)),
        left=room - len(chosen),
    )


def send_to_review(loop: Loop, sample_ids: Sequence[str], reason: str) -> Wanted:
    """Ask the experts, or without any one more annotator, about labels that a person calls wrong.

    Raises:
        BusyError: a night runs.
    """
    settings = loop.project.labeling
    total = settings.samples_per_night * settings.annotations_per_sample
    has_experts = bool(loop.project.annotators.experts)
    with between_nights(loop) as night, loop.ledger.begin() as connection:
        labels = newest_labels(connection, sample_ids)
        faults = dict(
            _not_to_review(connection, sample_ids, labels)
            if has_experts
            else _not_to_ask_again(connection, sample_ids, labels)
        )
        free = [key for key in dict.fromkeys(sample_ids) if key not in faults]
        room = _room(loop, connection, night.number, total, Purpose.REVIEW)
        chosen, now = free[:room], loop.now()
        if has_experts:
            asked = [
                Asked(
                    sample_id=key,
                    purpose=Purpose.REVIEW,
                    num_annotators=1,
                    priority=_FIRST_IN_LINE,
                    note=reason[:_LONGEST],
                )
                for key in chosen
            ]
            enqueue(connection, asked, night.number, now)
        else:
            ask_more(connection, chosen, Purpose.CHOICE, reason[:_LONGEST], night.number, now)
    left_out = faults | dict.fromkeys(free[room:], _spent(total))
    return Wanted(queued=tuple(chosen), left_out=left_out, left=room - len(chosen))


def _room(loop: Loop, connection: Connection, night: int, most: int, purpose: Purpose) -> int:
    """Return how many answers the budgets of the coming night still allow."""
    money = affordable_answers(connection, loop.project, night, loop.now(), purpose=purpose)
    left = most - answers_asked(connection, night)
    return max(left if money is None else min(left, money), 0)


def _spent(most: int) -> str:
    return (
        f"the coming night's budget of {most} answers is used up; raise labeling.samples_per_night or "
        "wait for the night after"
    )


def _not_to_choose(
    connection: Connection, sample_ids: Sequence[str], seen: Mapping[str, Seen]
) -> Iterator[tuple[str, str]]:
    drawn, sides = watermark(connection, _MARK), sides_of(connection, sample_ids)
    brought = select(samples.c.id).where(samples.c.id.in_(sample_ids), is_brought(samples.c.id))
    elsewhere = set(connection.execute(brought).scalars())
    for key in sample_ids:
        one = seen.get(key)
        if one is None or one.place == 0:
            yield key, "production has not seen it"
        elif one.case.share is not None:
            yield key, "it was chosen before"
        elif key in elsewhere:
            yield key, "its labels come from a project of your own"
        elif sides[key] is Split.TEST:
            yield key, "its group can only test, so only the random draw may choose it"
        elif one.place > drawn:
            yield key, "the random share is drawn first; choose it after the next night"


def _not_to_review(
    connection: Connection, sample_ids: Sequence[str], labels: Mapping[str, Label]
) -> Iterator[tuple[str, str]]:
    known = reviewed(connection, sample_ids)
    for key in sample_ids:
        if key not in labels or labels[key].answer is None:
            yield key, "it has no label"
        elif key in known:
            yield key, "the experts were asked before"


def _not_to_ask_again(
    connection: Connection, sample_ids: Sequence[str], labels: Mapping[str, Label]
) -> Iterator[tuple[str, str]]:
    asked = how_asked(connection, sample_ids)
    for key in sample_ids:
        if key not in labels or labels[key].answer is None:
            yield key, "it has no label"
        elif key not in asked:
            yield key, "no annotator was asked about it, and no expert is named in [annotators]"
        elif asked[key].state != "done":
            yield key, "annotators are still being asked about it"


def _choice(seen: Seen, reason: str, num_annotators: int) -> Choice:
    return Choice(
        sample_id=seen.case.sample_id,
        prediction_id=seen.prediction_id,
        share=Share.TARGETED,
        reason=reason[:_LONGEST],
        priority=_FIRST_IN_LINE,
        inclusion_probability=None,
        num_annotators=num_annotators,
    )


def _store(connection: Connection, chosen: tuple[Choice, ...], night: int, loop: Loop) -> None:
    ids = [choice.sample_id for choice in chosen]
    now = loop.now()
    batch = Batch(
        id=content_id(canonical([night, "by hand", ids]).encode()),
        choices=chosen,
        night=night,
        population=0,
        created_at=now,
    )
    add_batch(connection, batch)
    move_failures(connection, ids, FailureState.QUEUED, night, now)
