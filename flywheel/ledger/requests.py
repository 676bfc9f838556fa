"""Requests: how many answers each night asked for, and which of them are still to come.

An answer is asked for with the labeling task, or later as a second opinion. Counts are by the
purpose of the request, since experts answer some purposes and their answers cost more.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from flywheel.ledger.codec import from_row
from flywheel.ledger.failures import see_again
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.outbox import num_elsewhere, set_aside, wait_again
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import campaigns, failures, labeling_tasks, requests
from flywheel.records import FailureState, Purpose

REFUSED = "an answer was refused"
"""reason of a request that replaces an annotation which is no answer of the task"""
UNREAD = ("its sample cannot be loaded", "labeling.answer of the task")
"""how reasons begin that are no fault of the annotator: asking another one would not help"""
_MOST_REFUSED = 3
"""refused annotations after which a sample is set aside: two other annotators could not answer it"""


def answers_open(connection: Connection) -> dict[Purpose, int]:
    """Answers that were asked for and are still to come, on what is not finished.

    Only what was given in a labeling task's present place counts as come: of a project that was
    deleted every annotator is asked anew. A skip is asked of another annotator.
    """
    asked = labeling_tasks.c
    not_done = requests.c.done_at.is_(None)
    num_open = _requested(not_done)
    wanted = asked.num_annotators + _requested() - _given()
    left = case((asked.state == "done", num_open), (wanted > 0, wanted), else_=0)
    opens_again = asked.sample_id.in_(select(requests.c.sample_id).where(not_done))
    is_open = or_(asked.state.in_(("waiting", "sent")), and_(asked.state == "done", opens_again))
    query = (
        select(asked.purpose, func.sum(left).label("left")).where(is_open).group_by(asked.purpose)
    )
    return {row.purpose: int(row.left) for row in connection.execute(query) if row.left}


def asked_in(connection: Connection, night: int) -> dict[Purpose, int]:
    """The answers that a night asked for so far; what was withdrawn is given back."""
    total: Counter[Purpose] = Counter()
    for query in (_posted(night), _additional(night, requests.c.purpose)):
        total.update({row.why: int(row.num_annotators) for row in connection.execute(query)})
    return dict(total)


def _posted(night: int) -> Select[Any]:
    """The annotators asked with a night's labeling tasks, by purpose."""
    purpose, number = labeling_tasks.c.purpose, func.sum(labeling_tasks.c.num_annotators)
    stands = labeling_tasks.c.state.not_in(("refused", "withdrawn"))
    query = select(purpose.label("why"), number.label("num_annotators"))
    return query.where(labeling_tasks.c.night == night, stands).group_by(purpose)


def _additional(night: int, why: Column[Any]) -> Select[Any]:
    """The annotators that a night asked for later, by a column of the requests."""
    number = func.sum(requests.c.num_annotators).label("num_annotators")
    return select(why.label("why"), number).where(requests.c.night == night).group_by(why)


def _requested(*conditions: ColumnElement[bool]) -> Any:
    """The additional annotators asked for, of each labeling task."""
    number = select(func.coalesce(func.sum(requests.c.num_annotators), 0)).where(*conditions)
    return _same(number, requests)


def _given() -> Any:
    """Answers that came where each labeling task is now."""
    table, asked = given.c, labeling_tasks.c
    place = cast(asked.campaign, String) + "/" + cast(asked.external_id, String)
    # None: from before the place was kept
    is_there = and_(
        asked.external_id.is_not(None),
        or_(table.labeling_task == place, table.labeling_task.is_(None)),
    )
    number = select(func.count()).select_from(given)
    stands = (table.deleted_at.is_(None), table.skipped.is_(False))
    return _same(number.where(is_there, *stands), given)


def _same(number: Select[Any], table: Table) -> Any:
    """A number of each labeling task, from another table."""
    return number.where(_is_same(table.c)).correlate(labeling_tasks).scalar_subquery()


def _is_same(other: Any) -> ColumnElement[bool]:
    """Whether columns of another table are about a labeling task."""
    asked = labeling_tasks.c
    return and_(other.sample_id == asked.sample_id, other.purpose == asked.purpose)


class Request(NamedTuple):
    """More annotators to be asked in a labeling task that is with annotators already."""

    seq: int
    sample_id: str
    purpose: Purpose
    external_id: int
    num_annotators: int
    """annotators asked in all"""


def answers_asked(connection: Connection, night: int) -> int:
    """The answers that a night's budget has paid for so far; what was withdrawn is given back."""
    return sum(asked_in(connection, night).values())


def asked_besides(connection: Connection, night: int) -> dict[str, int]:
    """Answers that a night asked for in addition to its batch, by purpose or reason."""
    besides = _posted(night).where(labeling_tasks.c.purpose != Purpose.CHOICE)
    return {
        row.why: int(row.num_annotators)
        for query in (besides, _additional(night, requests.c.reason))
        for row in connection.execute(query)
    }


def ask_more(
    connection: Connection,
    sample_ids: list[str],
    purpose: Purpose,
    reason: str,
    night: int,
    now: datetime,
) -> None:
    """Ask one more person about each of these samples; where its project is gone, elsewhere."""
    rows = [
        {
            "sample_id": sample_id,
            "purpose": purpose,
            "num_annotators": 1,
            "reason": reason,
            "night": night,
            "at": now,
        }
        for sample_id in sample_ids
    ]
    if not rows:
        return
    connection.execute(insert(requests), rows)
    lost = select(campaigns.c.id).where(campaigns.c.state == "lost")
    gone = and_(
        labeling_tasks.c.sample_id.in_(sample_ids),
        labeling_tasks.c.purpose == purpose,
        labeling_tasks.c.state == "done",
        labeling_tasks.c.campaign.in_(lost),
    )
    wait_again(connection, gone, in_place=False)


def ask_again(connection: Connection, sample_ids: list[str], now: datetime) -> None:
    """Ask another annotator for each refused annotation on these samples; after three, set aside.

    The refused ones stay stored, and what an annotator changes later is read. Gold questions are
    not asked again, since their answer is known.
    """
    night = current_night_number(connection)
    for row in _refused_on(connection, sample_ids):
        if row.num_refused < _MOST_REFUSED:
            for _ in range(row.num_refused - row.num_asked):
                ask_more(connection, [row.sample_id], row.purpose, REFUSED, night, now)
            continue
        note = f"{row.num_refused} annotators gave no answer of the task, the last one: {row.why}"
        set_aside(connection, {row.key: note}, now)
        done = requests.c.sample_id == row.sample_id, requests.c.purpose == row.purpose
        connection.execute(
            update(requests).where(*done, requests.c.done_at.is_(None)).values(done_at=now)
        )
        queued = select(failures.c.sample_id).where(
            failures.c.sample_id == row.sample_id, failures.c.state == FailureState.QUEUED
        )
        see_again(connection, list(connection.execute(queued).scalars()), night, now)


def _refused_on(connection: Connection, sample_ids: list[str]) -> Any:
    """The open labeling tasks of some samples with refused annotations, and how many they have."""
    task = labeling_tasks.c
    number = select(func.count()).select_from(given).where(*_REFUSED_ANNOTATION)
    newest = select(func.max(given.c.refused)).where(*_REFUSED_ANNOTATION)
    asked = select(func.count()).select_from(requests).where(requests.c.reason == REFUSED)
    query = select(
        task.sample_id,
        task.purpose,
        task.key,
        _same(number, given).label("num_refused"),
        _same(newest, given).label("why"),
        _same(asked, requests).label("num_asked"),
    ).where(
        task.sample_id.in_(sample_ids),
        task.purpose != Purpose.GOLD,
        task.state.in_(("sent", "done")),
        task.key.is_not(None),
    )
    return [row for row in connection.execute(query) if row.num_refused]


_REFUSED_ANNOTATION = (
    given.c.refused.is_not(None),
    given.c.deleted_at.is_(None),
    *(given.c.refused.not_like(f"{beginning}%") for beginning in UNREAD),
)


def refused_in(connection: Connection, campaign: int) -> set[int]:
    """The external ids of a campaign's labeling tasks on which an annotation was refused."""
    query = select(given.c.labeling_task).where(
        given.c.refused.is_not(None),
        given.c.deleted_at.is_(None),
        given.c.labeling_task.like(f"{campaign}/%"),
    )
    numbers = (place.split("/")[1:] for place in connection.execute(query).scalars())
    return {int(number[0]) for number in numbers if len(number) == 1}


def open_requests(connection: Connection) -> list[Request]:
    """Requests not yet sent to Label Studio, with the number of annotators wanted in all.

    That is of the labeling task as it is there now: those who answered elsewhere do not count.
    """
    table = labeling_tasks.c
    wanted = (
        select(
            requests.c.sample_id,
            requests.c.purpose,
            func.sum(requests.c.num_annotators).label("more"),
            func.max(requests.c.seq).label("seq"),
        )
        .group_by(requests.c.sample_id, requests.c.purpose)
        .having(func.count() > func.count(requests.c.done_at))
        .subquery()
    )
    query = (
        select(
            wanted.c.seq,
            table.sample_id,
            table.purpose,
            table.external_id,
            (table.num_annotators + wanted.c.more - num_elsewhere()).label("num_annotators"),
        )
        .join(wanted, _is_same(wanted.c))
        .where(table.external_id.is_not(None), table.state.in_(("sent", "done")))
        .order_by(wanted.c.seq)
    )
    return [from_row(Request, row) for row in connection.execute(query)]


def annotators_wanted(connection: Connection, campaign: int) -> dict[str, int]:
    """By key, the annotators asked in each labeling task of a campaign, with sent requests.

    Those who answered elsewhere do not count.
    """
    table = labeling_tasks.c
    more = _requested(requests.c.done_at.is_not(None))
    num_annotators = (table.num_annotators + more - num_elsewhere()).label("num_annotators")
    query = select(table.key, num_annotators)
    rows = connection.execute(query.where(table.campaign == campaign, table.key.is_not(None)))
    return {row.key: max(int(row.num_annotators), 1) for row in rows}


def finish_requests(connection: Connection, done: list[Request], now: datetime) -> None:
    """Mark requests as done: Label Studio asks these annotators now, their labeling tasks are open again."""
    for request in done:
        mine, task = (
            and_(table.c.sample_id == request.sample_id, table.c.purpose == request.purpose)
            for table in (requests, labeling_tasks)
        )
        still = (requests.c.seq <= request.seq, requests.c.done_at.is_(None))
        connection.execute(update(requests).where(mine, *still).values(done_at=now))
        connection.execute(update(labeling_tasks).where(task).values(state="sent"))
