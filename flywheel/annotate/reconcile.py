"""Holds the ledger against all of a campaign's project, and mends or tells what differs.

A pull asks what changed since a time; a reconciliation looks at everything, so it also finds what left no
trace, and what a server's clock that was set back has hidden. What it does:

    missing             a person deleted it: set aside with a note, never sent again; when most
                        are missing, somebody's server was emptied: they are sent again
    twice               the copies that nobody has begun are deleted; of two that were begun both
                        stay, and the answers of both count
    edited by hand      what we wrote is written again; where fewer people are asked than were
                        wanted, as in a copy that was begun first, more are
    made by hand        told, and left alone
    unread change       read; where most went back in time, nothing that was read is given up
    unnoted             a run that was killed had sent it: the next one to send finds it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam

from flywheel.annotate.backend import BACKEND_LOCK, InventoryRow, LabelingBackend
from flywheel.annotate.plan import lose_deleted_projects
from flywheel.annotate.pull import IngestInto, PullResult, ingest, sums
from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import Sent, send_again, sent_in, set_aside, update_by_key, withdraw
from flywheel.ledger.requests import annotators_wanted
from flywheel.records import Json
from flywheel.task import Task

_FEW = 10
_SAME = {"sample_id", "image"}
"""what says of which sample a labeling task is"""
_GONE = "its labeling task was deleted in Label Studio before it was finished; it is not sent again"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconcileResult:
    """What a reconciliation found, besides what it read."""

    num_missing: int = 0
    """open labeling tasks that somebody deleted; their samples are set aside"""
    num_again: int = 0
    """that disappeared all at once, or with their project; they wait again"""
    num_copies: int = 0
    """labeling tasks that were there once more, and are gone now"""
    num_twins: int = 0
    """of which two were begun; both count"""
    num_restored: int = 0
    """that somebody had edited by hand"""
    num_foreign: int = 0
    """that somebody made by hand; left alone"""
    num_unnoted: int = 0
    """that a run which was killed had sent"""
    read: PullResult = field(default_factory=PullResult)
    """changes that no pull had seen"""

    def __add__(self, other: ReconcileResult) -> ReconcileResult:
        return ReconcileResult(**sums(self, other))


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """A campaign as the ledger and as Label Studio have it."""

    campaign: Campaign
    project_id: int
    rows: Mapping[str, Sent]
    """planned for it, by key"""
    there: Mapping[str, list[InventoryRow]]
    """by key, also where somebody edited it away; one that was begun first, before others the one
    that the ledger knows"""
    strangers: Sequence[InventoryRow]
    """that are none of ours"""


def reconcile(
    ledger: Ledger, blobs: Blobs, studio: LabelingBackend, task: Task, now: datetime
) -> ReconcileResult:
    """Look at every labeling task of the campaigns that are not lost.

    Raises:
        BusyError: another process is sending.
        UnavailableError: Label Studio does not answer; the next reconciliation starts over.
    """
    total = ReconcileResult()
    with hold(ledger, BACKEND_LOCK, lambda: now):
        total += ReconcileResult(num_again=lose_deleted_projects(ledger, studio, now))
        with ledger.read() as connection:
            known = all_campaigns(connection)
        for campaign in known:
            if campaign.is_used:
                total += _reconcile_campaign(ledger, blobs, studio, task, campaign, now)
    return total


def _reconcile_campaign(
    ledger: Ledger,
    blobs: Blobs,
    studio: LabelingBackend,
    task: Task,
    campaign: Campaign,
    now: datetime,
) -> ReconcileResult:
    view = _look(ledger, studio, campaign)
    num_unnoted = _note(ledger, view)
    restored = _restore(studio, view)
    restored |= _ask_enough(ledger, studio, view)
    num_copies, num_twins = _drop_copies(studio, view)
    num_missing, num_again = _settle_missing(ledger, view, now)
    _tell_foreign(ledger, view, now)
    unread = restored.union(_unread(view))
    found = list(studio.fetch(view.project_id, unread)) if unread else []
    into, old = IngestInto(ledger, blobs, task, campaign), _back_in_time(view)
    # What is there now counts, whatever the server's clock says of when it came to be so.
    fresh = [one for one in found if one.external_id not in old]
    read = ingest(into, fresh, now, only_later=False)
    if old:
        told = (
            f"{len(old)} labeling tasks are older there than when they were read last, as after a "
            "back-up was restored; every answer that had been read is kept"
        )
        _tell(ledger, view, told, now)
        read += ingest(into, [one for one in found if one.external_id in old], now, keeps=True)
    return ReconcileResult(
        num_missing=num_missing,
        num_again=num_again,
        num_copies=num_copies,
        num_twins=num_twins,
        num_restored=len(restored),
        num_foreign=len(view.strangers),
        num_unnoted=num_unnoted,
        read=read,
    )


def _look(ledger: Ledger, studio: LabelingBackend, campaign: Campaign) -> _View:
    project_id = int(campaign.external_project or 0)
    glimpses = list(studio.inventory(project_id))
    if not glimpses and not studio.exists(project_id):
        raise UnavailableError(
            f"project {project_id} in Label Studio was deleted this moment; run this again"
        )
    with ledger.read() as connection:  # after: what was sent meanwhile is in both
        rows = {row.key: row for row in sent_in(connection, campaign.id) if row.key}
    there, strangers = defaultdict[str, list[InventoryRow]](list), list[InventoryRow]()
    findable = _findable(rows.values())
    for glimpse in glimpses:
        key = glimpse.key if glimpse.key in rows else _renamed(glimpse, findable)
        if key is not None:
            there[key].append(glimpse)
        else:
            strangers.append(glimpse)
    for key, copies in there.items():
        known = rows[key].external_id
        copies.sort(key=lambda one: (not one.is_begun, one.external_id != known, one.external_id))
    return _View(
        campaign=campaign,
        project_id=project_id,
        rows=rows,
        there=there,
        strangers=strangers,
    )


def _renamed(glimpse: InventoryRow, rows: Mapping[object, Sequence[Sent]]) -> str | None:
    """The key under which it was sent, when somebody edited the key away.

    Its number alone says nothing: that of a deleted one may be given out again. Nor need it have
    one that we know: an answer in a copy of ours is an answer to the same question.
    """
    sample_id = glimpse.data.get("sample_id") if glimpse.is_begun else None
    for row in (*rows.get(glimpse.external_id, ()), *rows.get(sample_id, ())):
        data = row.data or {}
        if any(glimpse.data.get(name) == data[name] for name in data.keys() & _SAME):
            return row.key
    return None


def _findable(rows: Iterable[Sent]) -> Mapping[object, Sequence[Sent]]:
    """What is with people or done, by the number that it has there and by its sample."""
    found = defaultdict[object, list[Sent]](list)
    for row in rows:
        if row.state in ("sent", "done"):
            found[row.external_id].append(row)
            found[row.sample_id].append(row)
    return found


def _note(ledger: Ledger, view: _View) -> int:
    """Note which are known by another id; how many are there that the ledger thinks unsent."""
    first = {key: copies[0].external_id for key, copies in view.there.items()}
    unsent = {key for key in first if view.rows[key].state == "waiting"}
    moved = {
        key: number
        for key, number in first.items()
        if key not in unsent and view.rows[key].external_id != number
    }
    with ledger.begin() as connection:
        update_by_key(connection, {"external_id": bindparam("value")}, moved)
    return len(unsent)


def _restore(studio: LabelingBackend, view: _View) -> set[int]:
    """Write again what somebody edited in the first of each key and in those begun; their numbers."""
    edited = dict[int, dict[str, Json]]()
    for key, copies in view.there.items():
        row = view.rows[key]
        if row.state == "waiting" or row.data is None:
            continue
        data = dict(row.data)
        for copy in copies:
            counts = copy is copies[0] or copy.is_begun
            if counts and any(copy.data.get(name) != data[name] for name in data):
                edited[copy.external_id] = data
    for external_id, data in edited.items():
        studio.restore(external_id, data)
    return set(edited)


def _ask_enough(ledger: Ledger, studio: LabelingBackend, view: _View) -> set[int]:
    """Ask as many people as were wanted; the numbers of the labeling tasks in which fewer were."""
    with ledger.read() as connection:  # now that it knows them by the numbers that they have
        wanted = annotators_wanted(connection, view.campaign.id)
    fewer = {
        copies[0].external_id: wanted[key]
        for key, copies in view.there.items()
        if view.rows[key].state in ("sent", "done") and copies[0].num_annotators < wanted[key]
    }
    for external_id, num_annotators in fewer.items():
        studio.raise_overlap(external_id, num_annotators)
    return set(fewer)


def _drop_copies(studio: LabelingBackend, view: _View) -> tuple[int, int]:
    """Delete copies that nobody has begun; how many are gone, and how many keys have two begun."""
    spare = [one.external_id for copies in view.there.values() for one in copies[1:]]
    gone = studio.delete(view.project_id, spare) if spare else set()
    twins = sum(
        any(one.external_id not in gone for one in copies[1:]) for copies in view.there.values()
    )
    return len(gone), twins


def _settle_missing(ledger: Ledger, view: _View, now: datetime) -> tuple[int, int]:
    """Open labeling tasks that are not there, under their key or another.

    Those that a run was withdrawing when it was killed are withdrawn. A few are decisions of
    people and set aside. Many at once are an accident, such as a server restored from an old
    back-up: those wait again.

    Returns:
        How many are set aside, and how many wait again.
    """
    still_open = [key for key, row in view.rows.items() if row.state == "sent"]
    missing = [key for key in still_open if key not in view.there]
    ours = {view.rows[key].sample_id: note for key in missing if (note := view.rows[key].note)}
    missing = [key for key in missing if not view.rows[key].note]
    with ledger.begin() as connection:
        for note in set(ours.values()):
            withdraw(connection, [key for key in ours if ours[key] == note], note, now)
        if len(missing) > _FEW and 2 * len(missing) > len(still_open):
            send_again(connection, missing)
            return 0, len(missing)
        set_aside(connection, dict.fromkeys(missing, _GONE), now)
    return len(missing), 0


def _tell_foreign(ledger: Ledger, view: _View, now: datetime) -> None:
    foreign = view.strangers
    if not foreign:
        return
    _tell(
        ledger,
        view,
        f"{len(foreign)} labeling tasks were made by hand, number {foreign[0].external_id} for "
        "one; they are left alone, and what people answer there is no label of ours",
        now,
    )


def _unread(view: _View) -> list[int]:
    """Numbers of the labeling tasks with a change that was not read; both of twins, always."""
    found = []
    for key, copies in view.there.items():
        row = view.rows[key]
        if len(copies) > 1:
            found += [one.external_id for one in copies if one.is_begun]
        elif copies[0].updated_at != row.seen_at and (copies[0].is_begun or row.seen_at):
            found.append(copies[0].external_id)
    return found


def _back_in_time(view: _View) -> set[int]:
    """Labeling tasks that are as they were before we read them last; none when they are few.

    Many at once mean that the server was restored from a back-up: what is missing there was not
    deleted by people, and what is older there is not what they said last.
    """
    found = set()
    for key, copies in view.there.items():
        seen = view.rows[key].seen_at
        if seen is not None and copies[0].updated_at < seen:
            found.add(copies[0].external_id)
    return found if len(found) > _FEW else set()


def _tell(ledger: Ledger, view: _View, reason: str, now: datetime) -> None:
    """Note something about a project as a skip."""
    with ledger.begin() as connection:
        project = f"project {view.project_id} in Label Studio"
        add_skip(connection, project, reason, current_night_number(connection), now)
