"""Into which campaign a labeling task goes, under which key, and whether it shows the model's answer.

All three are stored before anything is sent, so that whoever tries again sends the same. It
refuses to know Label Studio.

Campaigns whose project somebody deleted in Label Studio: what was open in them waits again.

A project that is gone takes everything with it, so that is taken for an accident; one labeling
task that is gone is taken for a decision (see `flywheel.annotate.reconcile`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from flywheel.annotate.backend import BACKEND_LOCK, LabelingBackend
from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import (
    EVERYONE,
    EXPERTS,
    Campaign,
    all_campaigns,
    audience_of,
    begin_campaign,
    lose_campaign,
)
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import Planned, Waiting, plan
from flywheel.project import Project
from flywheel.records import Purpose, Sample, content_id
from flywheel.task import Task

EVERYWHERE = "everywhere"
"""of a blinding that is not about one slice"""
_LONGEST_TITLE = 50
"""characters that Label Studio allows"""


def plan_part(
    connection: Connection,
    part: Sequence[tuple[Waiting, Sample]],
    task: Task,
    project: Project,
    blinded: frozenset[str],
    now: datetime,
) -> list[Waiting]:
    """Store where labeling tasks are to go; those that have a place already keep it.

    Blind are all gold samples, a share by the hash of the key, and what is blinded.

    Args:
        connection: to the ledger, in a transaction.
        part: what waits, with the samples.
        task: whose slices they are.
        project: its name is part of every key.
        blinded: slices in which people take over too much of the model's answer, or EVERYWHERE.
        now: when a campaign begins that has to.

    Returns:
        What waits, in the same order, each with campaign and key.
    """
    planned: dict[tuple[str, Purpose], Planned] = {}
    room = _Room(connection, project, now)
    for row, sample in part:
        if row.campaign is None:
            campaign = room.take(row.purpose)
            key = key_of(project, campaign, row)
            drawn = int(key[:8], 16) / 16**8 < project.quality.blind_share
            blind = row.purpose is Purpose.GOLD or drawn or EVERYWHERE in blinded
            shown = not blind and not _is_blinded(sample, task, blinded)
            planned[row.sample_id, row.purpose] = Planned(campaign=campaign, key=key, shown=shown)
    plan(connection, planned)
    return [
        row._replace(**place._asdict())
        if (place := planned.get((row.sample_id, row.purpose))) is not None
        else row
        for row, _ in part
    ]


def title_of(name: str, audience: str, number: int) -> str:
    """The title of a campaign's project; no other campaign of any project has the same."""
    end = " experts" if audience == EXPERTS else ""
    end += f" {number}" if number > 1 else ""
    room = _LONGEST_TITLE - len("flywheel: ") - len(end)
    if len(name) > room:  # what is cut off may be all that tells two projects apart
        name = f"{name[: room - 7]}~{content_id(name.encode())[:6]}"
    return f"flywheel: {name}{end}"


def key_of(project: Project, campaign: int, row: Waiting) -> str:
    """The key of a sample in a campaign: always the same, and of no other."""
    return content_id(f"{project.name}/{campaign}/{row.purpose}/{row.sample_id}".encode())


class _Room:
    """The campaigns that still take something; a new one is begun when there is none."""

    def __init__(self, connection: Connection, project: Project, now: datetime) -> None:
        self._connection = connection
        self._project = project
        self._now = now
        known = all_campaigns(connection)
        self._numbers = {
            audience: sum(campaign.audience == audience for campaign in known)
            for audience in (EVERYONE, EXPERTS)
        }
        self._open = {one.audience: one for one in known if one.state == "open"}
        self._filled = {one.audience: one.num_labeling_tasks for one in self._open.values()}

    def take(self, purpose: Purpose) -> int:
        """A place for one labeling task; the id of its campaign."""
        audience = audience_of(purpose)
        limit = self._project.labeling.campaign_samples
        campaign = self._open.get(audience)
        if campaign is None or self._filled[audience] >= limit:
            campaign = self._begin(audience)
        self._filled[audience] += 1
        return campaign.id

    def _begin(self, audience: str) -> Campaign:
        self._numbers[audience] += 1
        title = title_of(self._project.name, audience, self._numbers[audience])
        campaign = begin_campaign(self._connection, audience, title, self._now)
        self._open[audience], self._filled[audience] = campaign, 0
        return campaign


def _is_blinded(sample: Sample, task: Task, blinded: frozenset[str]) -> bool:
    """Whether it is in such a slice; so is a sample that cannot be read, whose slices are unknown."""
    try:
        return any(task.slices[name](sample) for name in blinded & task.slices.keys())
    except UNREADABLE:
        return True


def lose_deleted_projects(ledger: Ledger, studio: LabelingBackend, now: datetime) -> int:
    """Give up the campaigns whose project is gone; how many labeling tasks wait again.

    Raises:
        BusyError: one is gone while another process is sending to it.
        UnavailableError: Label Studio does not answer.
    """
    gone = [one for one in _used(ledger) if not studio.exists(int(one.external_project or 0))]
    if not gone:
        return 0
    with hold(ledger, BACKEND_LOCK, lambda: now):
        still = {one.id for one in _used(ledger)}
        return sum(_lose(ledger, one, now) for one in gone if one.id in still)


def _used(ledger: Ledger) -> list[Campaign]:
    with ledger.read() as connection:
        known = all_campaigns(connection)
    return [one for one in known if one.is_used]


def _lose(ledger: Ledger, campaign: Campaign, now: datetime) -> int:
    with ledger.begin() as connection:
        number = lose_campaign(connection, campaign.id)
        add_skip(
            connection,
            f"project {campaign.external_project} in Label Studio",
            f"{campaign.title!r} was deleted there; its {number} unfinished labeling tasks are "
            "sent again to a new project, and every annotation that had been read is kept",
            current_night_number(connection),
            now,
        )
    return number
