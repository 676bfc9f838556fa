"""Plans labeling tasks: the campaign, the key, and whether the model's answer is shown.

All three are stored before anything is sent, so that a retry sends the same. If the project of a
campaign was deleted in Label Studio, its open labeling tasks wait again: the loss of a project
counts as an accident, that of one labeling task as a decision (see `flywheel.annotate.reconcile`).
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
"""stands for all samples in a set of blinded slices"""
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
    """Store the plan of labeling tasks; those that have one already keep it.

    The model's answer is hidden for all gold samples, for a share by the hash of the key, and in
    blinded slices.

    Args:
        connection: to the ledger, in a transaction.
        part: waiting rows with their samples.
        task: defines the slices.
        project: its name is part of every key.
        blinded: slices in which annotators copy the model's answer too often, or EVERYWHERE.
        now: start time of a new campaign.

    Returns:
        The waiting rows in the same order, each with campaign and key.
    """
    planned: dict[tuple[str, Purpose], Planned] = {}
    open_campaigns = _OpenCampaigns(connection, project, now)
    for row, sample in part:
        if row.campaign is None:
            campaign = open_campaigns.take(row.purpose)
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
    """Return the title of a campaign's project, which is unique over all campaigns and projects."""
    end = " experts" if audience == EXPERTS else ""
    end += f" {number}" if number > 1 else ""
    room = _LONGEST_TITLE - len("flywheel: ") - len(end)
    if len(name) > room:  # the part cut off may be all that distinguishes two projects
        name = f"{name[: room - 7]}~{content_id(name.encode())[:6]}"
    return f"flywheel: {name}{end}"


def key_of(project: Project, campaign: int, row: Waiting) -> str:
    """Return the key of a labeling task: stable, and unique to sample, purpose and campaign."""
    return content_id(f"{project.name}/{campaign}/{row.purpose}/{row.sample_id}".encode())


class _OpenCampaigns:
    """The campaigns that are not full; a new one is begun when needed."""

    def __init__(self, connection: Connection, project: Project, now: datetime) -> None:
        self._connection = connection
        self._project = project
        self._now = now
        known = all_campaigns(connection)
        self._numbers = {
            audience: sum(campaign.audience == audience for campaign in known)
            for audience in (EVERYONE, EXPERTS)
        }
        self._open = {campaign.audience: campaign for campaign in known if campaign.state == "open"}
        self._filled = {
            audience: campaign.num_labeling_tasks for audience, campaign in self._open.items()
        }

    def take(self, purpose: Purpose) -> int:
        """Return the id of the campaign that one more labeling task goes to."""
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
    """Return whether the sample is in a blinded slice; also if it is unreadable, to be safe."""
    try:
        return any(task.slices[name](sample) for name in blinded & task.slices.keys())
    except UNREADABLE:
        return True


def lose_deleted_projects(ledger: Ledger, studio: LabelingBackend, now: datetime) -> int:
    """Give up campaigns whose project was deleted; return how many labeling tasks wait again.

    Raises:
        BusyError: a project was deleted while another process is sending to it.
        UnavailableError: Label Studio does not answer.
    """
    gone = [
        campaign
        for campaign in _used(ledger)
        if not studio.exists(int(campaign.external_project or 0))
    ]
    if not gone:
        return 0
    with hold(ledger, BACKEND_LOCK, lambda: now):
        # Another process may have given them up before this one got the lock.
        still = {campaign.id for campaign in _used(ledger)}
        return sum(_lose(ledger, campaign, now) for campaign in gone if campaign.id in still)


def _used(ledger: Ledger) -> list[Campaign]:
    with ledger.read() as connection:
        known = all_campaigns(connection)
    return [campaign for campaign in known if campaign.is_used]


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
