"""What people were asked for: by a night, and what of it is still to come.

Counts by the purpose of the asking, since experts answer some of it. What an answer costs is not
known here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    func,
    or_,
    select,
)

from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import labeling_tasks, requests
from flywheel.records import Purpose


def answers_open(connection: Connection) -> dict[Purpose, int]:
    """Answers that were asked for and are still to come, on what is not finished.

    Only what was given in a labeling task's present place counts as come: of a project that was
    deleted everybody is asked anew. Skips are asked of somebody else.
    """
    asked = labeling_tasks.c
    not_told = requests.c.done_at.is_(None)
    untold = _requested(not_told)
    wanted = asked.people + _requested() - _given()
    left = case((asked.state == "done", untold), (wanted > 0, wanted), else_=0)
    opens_again = asked.sample_id.in_(select(requests.c.sample_id).where(not_told))
    is_open = or_(asked.state.in_(("waiting", "sent")), and_(asked.state == "done", opens_again))
    query = (
        select(asked.purpose, func.sum(left).label("left")).where(is_open).group_by(asked.purpose)
    )
    return {Purpose(row.purpose): int(row.left) for row in connection.execute(query) if row.left}


def asked_in(connection: Connection, night: int) -> dict[Purpose, int]:
    """The answers that a night asked for so far; what was withdrawn is given back."""
    asked = (
        select(labeling_tasks.c.purpose, func.sum(labeling_tasks.c.people).label("people"))
        .where(
            labeling_tasks.c.night == night,
            labeling_tasks.c.state.not_in(("refused", "withdrawn")),
        )
        .group_by(labeling_tasks.c.purpose)
    )
    more = (
        select(requests.c.purpose, func.sum(requests.c.people).label("people"))
        .where(requests.c.night == night)
        .group_by(requests.c.purpose)
    )
    total: dict[Purpose, int] = {}
    for query in (asked, more):
        for row in connection.execute(query):
            purpose = Purpose(row.purpose)
            total[purpose] = total.get(purpose, 0) + int(row.people)
    return total


def _requested(*conditions: ColumnElement[bool]) -> Any:
    """People asked for besides, of each labeling task."""
    number = select(func.coalesce(func.sum(requests.c.people), 0)).where(*conditions)
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
    mine = (
        table.c.sample_id == labeling_tasks.c.sample_id,
        table.c.purpose == labeling_tasks.c.purpose,
    )
    return number.where(*mine).correlate(labeling_tasks).scalar_subquery()
