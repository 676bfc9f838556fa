"""Campaigns: our projects in Label Studio, filled one after the other.

A campaign whose project was deleted is lost and gives back what it had not finished.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update

from flywheel.ledger.codec import from_row
from flywheel.ledger.outbox import wait_again
from flywheel.ledger.tables import campaigns, labeling_tasks, requests
from flywheel.records import Purpose

EVERYONE, EXPERTS = "everyone", "experts"


class Campaign(NamedTuple):
    """A project in Label Studio and what it is for."""

    id: int
    audience: str
    """EVERYONE or EXPERTS"""
    title: str
    external_project: int | None
    """None: Label Studio does not have it yet"""
    state: str
    """open, full (takes no more) or lost (its project was deleted)"""
    num_labeling_tasks: int

    @property
    def is_used(self) -> bool:
        """Whether it has a project that may still be there."""
        return self.external_project is not None and self.state != "lost"


def audience_of(purpose: Purpose) -> str:
    """Whom a labeling task is for."""
    return EXPERTS if purpose is Purpose.REVIEW else EVERYONE


def all_campaigns(connection: Connection) -> list[Campaign]:
    """Every campaign, oldest first."""
    filled = (
        select(labeling_tasks.c.campaign, func.count().label("number"))
        .where(labeling_tasks.c.campaign.is_not(None))
        .group_by(labeling_tasks.c.campaign)
        .subquery()
    )
    query = (
        select(campaigns, func.coalesce(filled.c.number, 0).label("num_labeling_tasks"))
        .outerjoin(filled, filled.c.campaign == campaigns.c.id)
        .order_by(campaigns.c.id)
    )
    return [from_row(Campaign, row) for row in connection.execute(query)]


def begin_campaign(connection: Connection, audience: str, title: str, now: datetime) -> Campaign:
    """Open a campaign; those before it of the same audience are full from now on."""
    former = (campaigns.c.audience == audience, campaigns.c.state == "open")
    connection.execute(update(campaigns).where(*former).values(state="full"))
    row = {"audience": audience, "title": title, "state": "open", "created_at": now}
    connection.execute(insert(campaigns), row)
    return all_campaigns(connection)[-1]


def found_project(connection: Connection, campaign: int, external_project: int) -> None:
    """Record which project in Label Studio a campaign is."""
    mine = campaigns.c.id == campaign
    connection.execute(update(campaigns).where(mine).values(external_project=external_project))


def lose_campaign(connection: Connection, campaign: int) -> int:
    """The project is gone: what it had not finished waits again; how many labeling tasks.

    So does what it had finished and was to ask more annotators about. What annotators had already
    answered stays.
    """
    mine = campaigns.c.id == campaign
    connection.execute(update(campaigns).where(mine).values(state="lost"))
    table = labeling_tasks.c
    more = exists().where(
        requests.c.sample_id == table.sample_id,
        requests.c.purpose == table.purpose,
        requests.c.done_at.is_(None),
    )
    unfinished = or_(table.state.in_(("waiting", "sent")), and_(table.state == "done", more))
    return wait_again(connection, and_(table.campaign == campaign, unfinished), in_place=False)


def labeling_projects(connection: Connection) -> list[int]:
    """The projects in Label Studio in which everyone labels, oldest first."""
    return [
        int(one.external_project or 0)
        for one in all_campaigns(connection)
        if one.is_used and one.audience == EVERYONE
    ]
