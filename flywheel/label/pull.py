"""Brings annotations back from Label Studio: what is new, changed, skipped or gone.

Polling is the truth; pulled twice, nothing changes. A label is not made here. The rule for
what disappears: an annotation that someone deleted counts no longer; of a labeling task that
someone deleted the annotations stay that had come before (see `flywheel.label.sweep`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flywheel.blobs import Blobs
from flywheel.errors import BusyError
from flywheel.label.exchange import Bridge
from flywheel.label.intake import Intake, PullResult, take_in
from flywheel.label.lost import lose_deleted_projects
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.task import Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pull(ledger: Ledger, blobs: Blobs, studio: Bridge, task: Task, now: datetime) -> PullResult:
    """Store every annotation that changed since the last pull; every campaign is read.

    Only the samples of labeling tasks that changed are loaded. An annotation whose sample cannot
    be is refused; blobs that do not answer at all stop the pull, which loses nothing.

    Raises:
        UnavailableError: Label Studio or the blobs do not answer; the next pull brings the same.
        OSError: the disk of the blobs fails; the next pull brings the same.
        RefusedError: Label Studio refuses the token.
    """
    total = PullResult(num_again=_lose(ledger, studio, now))
    with ledger.read() as connection:
        known = all_campaigns(connection)
    for campaign in known:
        if campaign.is_used:
            total += _pull_campaign(ledger, blobs, studio, task, campaign, now)
    return total


def _lose(ledger: Ledger, studio: Bridge, now: datetime) -> int:
    try:
        return lose_deleted_projects(ledger, studio, now)
    except BusyError:
        return 0  # who sends there sees to it, and the next pull


def _pull_campaign(
    ledger: Ledger, blobs: Blobs, studio: Bridge, task: Task, campaign: Campaign, now: datetime
) -> PullResult:
    name = f"label studio project {campaign.external_project}"
    with ledger.read() as connection:
        before = watermark(connection, name)
    since = _EPOCH + timedelta(microseconds=before) if before else None
    changed = list(studio.pull(int(campaign.external_project or 0), since))
    result = take_in(Intake(ledger, blobs, task, campaign), changed, now)
    newest = max((found.updated_at for found in changed), default=None)
    if newest is not None:
        with ledger.begin() as connection:
            move_watermark(connection, name, (newest - _EPOCH) // timedelta(microseconds=1))
    return result
