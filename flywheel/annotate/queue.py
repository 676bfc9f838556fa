"""The annotation queue: plans labeling tasks, and orders those that wait.

A plan is the campaign, the key, and whether the answer of the model is shown. All three are stored
before anything is sent, so that a retry sends the same. If the project of a campaign was deleted in
Label Studio, its open labeling tasks wait again: the loss of a project counts as an accident, that of
one labeling task as a decision (see `flywheel.annotate.reconcile`).

The hardest comes first, with aging so that no sample waits for ever. Priorities change with the model
and with time, and are written to labeling tasks that are not begun. A sample that the current model no
longer finds hard is withdrawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam

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
from flywheel.ledger.engine import project_id
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import (
    Place,
    Planned,
    Waiting,
    move_places,
    open_places,
    plan,
    update_by_key,
    withdraw,
)
from flywheel.project import Project
from flywheel.records import Purpose, Sample, Share, content_id
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
        row._replace(**fresh._asdict())
        if (fresh := planned.get((row.sample_id, row.purpose))) is not None
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
        RefusedError: a project there is another flywheel project's, so that nothing was deleted.
        UnavailableError: Label Studio does not answer.
    """
    with ledger.read() as connection:
        owner = project_id(connection)
    gone = [
        campaign
        for campaign in _used(ledger)
        if not studio.exists(int(campaign.external_project or 0), owner)
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
