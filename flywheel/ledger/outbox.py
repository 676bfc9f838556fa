"""The outbox to Label Studio: which samples wait to be sent, are being annotated, or are finished.

A row is written with the choice, long before anything is sent. It gets its campaign and its key
in a transaction of their own, so that a second try sends the same. It also holds the places of
open labeling tasks in the queue, and the facts that they follow from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    bindparam,
    cast,
    func,
    insert,
    null,
    select,
    true,
    tuple_,
    update,
)

from flywheel.ledger.annotations import STANDS
from flywheel.ledger.codec import from_row
from flywheel.ledger.dialects import in_parts
from flywheel.ledger.failures import see_again
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import (
    campaigns,
    choices,
    labeling_tasks,
    predictions,
    requests,
    samples,
)
from flywheel.records import Json, Purpose, Share

_GONE = "/gone"
"""behind the place of an answer whose labeling task is not there any more"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A sample about which annotators are to be asked."""

    sample_id: str
    purpose: Purpose
    num_annotators: int
    priority: float
    """0..1, 1 is labeled first"""
    note: str = ""


class Waiting(NamedTuple):
    """A labeling task that waits to be sent, with what the model said and why it was chosen."""

    sample_id: str
    purpose: Purpose
    campaign: int | None
    key: str | None
    """None, as the campaign: not planned yet"""
    shown: bool
    """whether annotators see the model's answer"""
    num_annotators: int
    """who are still to be asked: those who answered where it was before need not"""
    priority: float
    created_at: datetime
    metadata: dict[str, Json]
    """of the sample"""
    answer: Json
    """logged; None for a gold sample of the start data, as are the next three"""
    confidence: float | None
    model_digest: str | None
    reason: str | None


class Planned(NamedTuple):
    """Where a labeling task is to go."""

    campaign: int
    key: str
    shown: bool
    """whether annotators see the model's answer"""


class Sent(NamedTuple):
    """A labeling task that was planned for a campaign, and where it is."""

    sample_id: str
    purpose: Purpose
    key: str
    external_id: int | None
    state: str
    data: dict[str, Json] | None
    """as it was sent; None where that was not kept"""
    seen_at: datetime | None
    note: str
    """why it ended, or is about to"""


def enqueue(connection: Connection, asked: Iterable[Asked], night: int, now: datetime) -> None:
    """Let samples wait to be sent, at the expense of a night; one purpose at a time each."""
    new = {"state": "waiting", "shown": False, "night": night, "created_at": now}
    rows = [asdict(asking) | new for asking in asked]
    if rows:
        connection.execute(insert(labeling_tasks), rows)


def waiting(connection: Connection) -> list[Waiting]:
    """What is to be sent, the hardest first."""
    table = labeling_tasks.c
    query = (
        select(
            table.sample_id,
            table.purpose,
            table.campaign,
            table.key,
            table.shown,
            (table.num_annotators - num_elsewhere()).label("num_annotators"),
            table.priority,
            table.created_at,
            samples.c.metadata,
            predictions.c.answer,
            predictions.c.confidence,
            predictions.c.model_digest,
            choices.c.reason,
        )
        .join(samples, samples.c.id == table.sample_id)
        .outerjoin(choices, choices.c.sample_id == table.sample_id)
        .outerjoin(predictions, predictions.c.id == choices.c.prediction_id)
        .where(table.state == "waiting")
        .order_by(table.priority.desc(), table.sample_id)
    )
    return [
        from_row(Waiting, row, num_annotators=max(row.num_annotators, 1))
        for row in connection.execute(query)
    ]


def num_elsewhere() -> ColumnElement[int]:
    """The number of annotators whose answers count from an earlier place of a labeling task."""
    table, one = labeling_tasks.c, given.c
    here = func.coalesce(cast(table.campaign, String) + "/" + cast(table.external_id, String), "")
    return (
        select(func.count(one.annotator.distinct()))
        .where(
            one.sample_id == table.sample_id,
            one.purpose == table.purpose,
            *STANDS,
            func.coalesce(one.labeling_task, "") != here,
        )
        .correlate(labeling_tasks)
        .scalar_subquery()
    )


def num_waiting(connection: Connection) -> int:
    """How many labeling tasks are to be sent."""
    mine = labeling_tasks.c.state == "waiting"
    return connection.execute(select(func.count()).where(mine)).scalar_one()


def plan(connection: Connection, planned: Mapping[tuple[str, Purpose], Planned]) -> None:
    """Give labeling tasks that wait their campaign, their key and whether the answer is shown."""
    rows = [
        {"sample": sample_id, "why": purpose}
        | {bound: getattr(place, name) for name, bound in _PLANNED.items()}
        for (sample_id, purpose), place in planned.items()
    ]
    if rows:
        statement = update(labeling_tasks).where(
            labeling_tasks.c.sample_id == bindparam("sample"),
            labeling_tasks.c.purpose == bindparam("why"),
        )
        values: dict[str, Any] = {name: bindparam(bound) for name, bound in _PLANNED.items()}
        connection.execute(statement.values(values), rows)


_PLANNED = {"campaign": "project", "key": "name", "shown": "see"}


def mark_sent(
    connection: Connection,
    external_ids: Mapping[str, int],
    data: Mapping[str, dict[str, Json]],
    places: Mapping[str, float],
    now: datetime,
) -> None:
    """Record under which external ids the labeling tasks of these keys are now with annotators."""
    values: dict[str, Any] = {
        "state": "sent",
        "sent_at": func.coalesce(labeling_tasks.c.sent_at, now),
    }
    for name, column in (("external_id", external_ids), ("data", data), ("place", places)):
        update_by_key(connection, {name: bindparam("value")}, column)
    update_by_key(connection, values, dict.fromkeys(external_ids), only_state="waiting")


def update_by_key(
    connection: Connection,
    values: Mapping[str, Any],
    keys: Mapping[str, object],
    only_state: str | None = None,
) -> None:
    """Set columns of labeling tasks; bindparam("value") stands for what differs from key to key."""
    if not keys:
        return
    statement = update(labeling_tasks).where(labeling_tasks.c.key == bindparam("name"))
    if only_state is not None:
        statement = statement.where(labeling_tasks.c.state == only_state)
    rows = [{"name": key, "value": value} for key, value in keys.items()]
    connection.execute(statement.values(dict(values)), rows)


def set_aside(
    connection: Connection, notes: Mapping[str, str], now: datetime, state: str = "refused"
) -> None:
    """Take labeling tasks, by key, out of labeling for good, and note each reason as a skip."""
    short = {key: note[:500] for key, note in notes.items()}
    update_by_key(connection, {"state": state, "note": bindparam("value")}, short)
    night = current_night_number(connection)
    for row in sent_by_key(connection, list(short)).values():
        add_skip(connection, f"sample {row.sample_id}", short[row.key], night, now)


def send_again(connection: Connection, keys: Sequence[str]) -> None:
    """Let labeling tasks that are no longer there wait again, in the campaign that they had."""
    for part in in_parts(keys):
        wait_again(connection, labeling_tasks.c.key.in_(part), in_place=True)


def wait_again(connection: Connection, which: ColumnElement[bool], *, in_place: bool) -> int:
    """Let labeling tasks that are no longer there wait again; how many.

    The answers that they brought stay, and more annotators are asked for again. Where the place is
    kept, the answers are noted as gone from it: when a number is given out again, what is missing
    there was not deleted.

    Args:
        connection: to the ledger, in a transaction.
        which: condition on labeling_tasks.
        in_place: whether they keep their campaign and their key.
    """
    mine = select(labeling_tasks.c.sample_id, labeling_tasks.c.purpose).where(which)
    wanted = tuple_(requests.c.sample_id, requests.c.purpose).in_(mine)
    connection.execute(update(requests).where(wanted).values(done_at=None))
    if in_place:
        place = given.c.labeling_task
        theirs = (tuple_(given.c.sample_id, given.c.purpose).in_(mine), place.not_like(f"%{_GONE}"))
        connection.execute(update(given).where(*theirs).values(labeling_task=place + _GONE))
    anew: dict[str, Any] = {"state": "waiting", "external_id": None, "place": None, "seen_at": None}
    anew["note"] = ""
    if not in_place:
        anew |= {"campaign": None, "key": None, "data": null(), "sent_at": None}
    return connection.execute(update(labeling_tasks).where(which).values(anew)).rowcount


def sent_by_key(
    connection: Connection, keys: Sequence[str], campaign: int | None = None
) -> dict[str, Sent]:
    """The labeling tasks of these keys, of one campaign or of any; unknown ones are missing."""
    found: dict[str, Sent] = {}
    mine = true() if campaign is None else labeling_tasks.c.campaign == campaign
    for part in in_parts(keys):
        query = _SENT.where(mine, labeling_tasks.c.key.in_(part))
        found.update((row.key, from_row(Sent, row)) for row in connection.execute(query))
    return found


def sent_in(connection: Connection, campaign: int) -> list[Sent]:
    """Every labeling task that was planned for a campaign."""
    query = _SENT.where(labeling_tasks.c.campaign == campaign).order_by(labeling_tasks.c.seq)
    return [from_row(Sent, row) for row in connection.execute(query)]


def num_sent_since(connection: Connection, since: datetime) -> int:
    """How many labeling tasks were sent since a time."""
    mine = labeling_tasks.c.sent_at >= since
    return connection.execute(select(func.count()).where(mine)).scalar_one()


_SENT = select(*(labeling_tasks.c[name] for name in Sent._fields))


class Place(NamedTuple):
    """An open labeling task in the queue."""

    sample_id: str
    purpose: Purpose
    key: str | None
    """None: it is not planned yet"""
    external_project: int | None
    external_id: int | None
    """None: not sent yet"""
    priority: float
    """its own, without ageing"""
    place: float | None
    """as Label Studio has it"""
    created_at: datetime
    share: Share | None
    """None for a gold sample that was never chosen"""
    is_leaving: bool
    """a run that ended early was about to withdraw it, and may have done so"""


def open_places(connection: Connection) -> list[Place]:
    """Every labeling task that waits or is being annotated, and is not finished."""
    table = labeling_tasks.c
    query = (
        select(
            table.sample_id,
            table.purpose,
            table.key,
            campaigns.c.external_project,
            table.external_id,
            table.priority,
            table.place,
            table.created_at,
            choices.c.share,
            table.note,
        )
        .outerjoin(campaigns, campaigns.c.id == table.campaign)
        .outerjoin(choices, choices.c.sample_id == table.sample_id)
        .where(table.state.in_(("waiting", "sent")))
        .order_by(table.seq)
    )
    return [from_row(Place, row, is_leaving=bool(row.note)) for row in connection.execute(query)]


def move_places(
    connection: Connection, priorities: Mapping[str, float], places: Mapping[str, float]
) -> None:
    """Record new priorities by sample of a choice, and new places by key."""
    if priorities:
        mine = (
            labeling_tasks.c.sample_id == bindparam("sample"),
            labeling_tasks.c.purpose == Purpose.CHOICE,
        )
        rows = [{"sample": key, "value": value} for key, value in priorities.items()]
        moved = update(labeling_tasks).where(*mine).values(priority=bindparam("value"))
        connection.execute(moved, rows)
    update_by_key(connection, {"place": bindparam("value")}, places)


def withdraw(connection: Connection, sample_ids: list[str], note: str, now: datetime) -> None:
    """Close labeling tasks that are no longer needed; their failures are merely seen again."""
    for part in in_parts(sample_ids):
        task = (labeling_tasks.c.sample_id.in_(part), labeling_tasks.c.purpose == Purpose.CHOICE)
        gone = {"state": "withdrawn", "note": note[:500]}
        connection.execute(update(labeling_tasks).where(*task).values(gone))
    see_again(connection, sample_ids, current_night_number(connection), now)
