"""Whether a night may begin before its time: a trigger is a hint, the ledger is the truth.

However often it is asked for, one night begins early between two times of the schedule at most:
a loop of triggers, in which each night asks people for the labels that begin the next one, comes
to no more than twice the nights.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from flywheel.cron import time_before
from flywheel.ledger.datasets import get_version, latest_version
from flywheel.ledger.nights import last_night, last_time_of
from flywheel.ledger.progress import count_labels_since
from flywheel.ledger.releases import latest_checkpoint
from flywheel.loop.context import Loop
from flywheel.loop.retrain import challenger


def num_new_labels(loop: Loop) -> int:
    """Samples that train whose label, given by people, no candidate was trained on."""
    with loop.ledger.read() as connection:
        return count_labels_since(connection, _trained_until(connection))


def why_not_early(loop: Loop) -> str:
    """Why no night begins before its time; "" when one may."""
    number, enough = num_new_labels(loop), loop.project.train.enough_labels
    if number < enough:
        return f"{number} new labels, {enough} are enough ([train] enough_labels)"
    challenged = challenger(loop)
    if challenged is not None:
        return f"{number} new labels wait until the challenge of {challenged[:12]} is decided"
    return _why_not_again(loop)


def _trained_until(connection: Connection) -> datetime | None:
    """When the labels were read that the last candidate was trained on; None before the first.

    A version with the same rows to train on had nothing new for it: what came until then was
    left out for good, and does not count again each time.
    """
    checkpoint = latest_checkpoint(connection)
    if checkpoint is None:
        return None
    trained, newest = get_version(connection, checkpoint.dataset_id), latest_version(connection)
    if newest is not None and newest.train_set_digest == trained.train_set_digest:
        return last_time_of(connection, "ingest") or trained.created_at
    return trained.created_at


def _why_not_again(loop: Loop) -> str:
    schedule, now = loop.project.schedule, loop.now()
    with loop.ledger.read() as connection:
        last = last_night(connection)
    if last is None or last.finished_at is None or not last.is_early:
        return ""
    since = time_before(schedule.cron, schedule.timezone, now)
    if since is not None and not since < last.started_at <= now:
        return ""
    return (
        f"night {last.number} began early at {last.started_at:%Y-%m-%d %H:%M} UTC already; the next "
        f"one is at {schedule.cron} {schedule.timezone}, or now with flywheel night"
    )
