"""Reconciles the ledger with all labeling tasks of a campaign: repairs or reports differences.

A pull reads what changed since a time. A reconciliation reads everything, so it also finds
deletions, and changes hidden by a server clock that was set back. What it does with them:

    missing             an annotator deleted it: it is set aside with a note and never sent again.
                        If most are missing, the server was reset: they are sent again
    duplicate           copies that are not begun are deleted; of two begun ones both stay, and
                        the answers of both count
    edited by hand      our data is written again; the number of annotators is raised to the one
                        requested, as for a copy that was begun first
    made by hand        reported, and left alone
    refused annotation  read again: a task that was corrected may understand it now
    unread change       read; if many went back in time, no stored annotation is given up
    not recorded        a killed run had sent it: the next run that sends finds it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam

from flywheel.annotate.backend import BACKEND_LOCK, InventoryRow, LabelingBackend
from flywheel.annotate.pull import IngestInto, PullResult, ingest, sums
from flywheel.annotate.queue import lose_deleted_projects
from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import Sent, send_again, sent_in, set_aside, update_by_key, withdraw
from flywheel.ledger.requests import annotators_wanted, refused_in
from flywheel.media import RESERVED
from flywheel.records import Json
from flywheel.task import Task

_FEW = 10
_GONE = "its labeling task was deleted in Label Studio before it was finished; it is not sent again"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconcileResult:
    """The differences that a reconciliation found, and the changes that it read."""

    num_missing: int = 0
    """open labeling tasks that an annotator deleted; their samples are set aside"""
    num_again: int = 0
    """labeling tasks that disappeared all at once, or with their project; they wait again"""
    num_copies: int = 0
    """duplicates that were deleted"""
    num_twins: int = 0
    """keys of which two labeling tasks are begun; both count"""
    num_restored: int = 0
    """labeling tasks that were edited by hand"""
    num_foreign: int = 0
    """labeling tasks that were made by hand; left alone"""
    num_unnoted: int = 0
    """labeling tasks that a killed run had sent without recording them"""
    read: PullResult = field(default_factory=PullResult)
    """changes that no pull had read"""

    def __add__(self, other: ReconcileResult) -> ReconcileResult:
        return ReconcileResult(**sums(self, other))


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """A campaign in the ledger and in Label Studio."""

    campaign: Campaign
    project_id: int
    rows: Mapping[str, Sent]
    """key -> row planned for the campaign"""
    there: Mapping[str, list[InventoryRow]]
    """key -> its labeling tasks, even if the key was edited away: begun ones first, then the one that
    the ledger knows"""
    strangers: Sequence[InventoryRow]
    """labeling tasks that are not ours"""


def reconcile(
    ledger: Ledger, blobs: Blobs, studio: LabelingBackend, task: Task, now: datetime
) -> ReconcileResult:
    """Compare every labeling task of all campaigns in use with the ledger.

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
    _report_foreign(ledger, view, now)
    unread = restored.union(_unread(view), _refused(ledger, view))
    found = list(studio.fetch(view.project_id, unread)) if unread else []
    into, old = IngestInto(ledger, blobs, task, campaign), _back_in_time(view)
    # The current state counts, whatever the server's clock says about its time.
    fresh = [there for there in found if there.external_id not in old]
    read = ingest(into, fresh, now, only_later=False)
    if old:
        reason = (
            f"{len(old)} labeling tasks are older there than when they were read last, as after a "
            "back-up was restored; every answer that had been read is kept"
        )
        _report(ledger, view, reason, now)
        read += ingest(
            into, [there for there in found if there.external_id in old], now, keeps=True
        )
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
            f"project {project_id} in Label Studio was just deleted; run this again"
        )
    with ledger.read() as connection:  # read second, so that rows sent meanwhile are in both
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
        copies.sort(key=lambda row: (not row.is_begun, row.external_id != known, row.external_id))
    return _View(
        campaign=campaign,
        project_id=project_id,
        rows=rows,
        there=there,
        strangers=strangers,
    )


def _renamed(glimpse: InventoryRow, rows: Mapping[object, Sequence[Sent]]) -> str | None:
    """Return the key of a labeling task whose key was edited away; None if it is not ours.

    Its external id alone proves nothing, since that of a deleted one may be reused. Nor need the
    ledger know its id: an answer in a copy of ours is an answer to the same question.
    """
    sample_id = glimpse.data.get("sample_id") if glimpse.is_begun else None
    for row in (*rows.get(glimpse.external_id, ()), *rows.get(sample_id, ())):
        data = row.data or {}
        shown = data.keys() - RESERVED
        for names in ({"sample_id"}, shown):
            if names and all(glimpse.data.get(name) == data.get(name) for name in names):
                return row.key
    return None


def _findable(rows: Iterable[Sent]) -> Mapping[object, Sequence[Sent]]:
    """Index the sent and finished rows by external id and by sample id."""
    found = defaultdict[object, list[Sent]](list)
    for row in rows:
        if row.state in ("sent", "done"):
            found[row.external_id].append(row)
            found[row.sample_id].append(row)
    return found


def _note(ledger: Ledger, view: _View) -> int:
    """Store changed external ids; return how many exist that the ledger records as unsent."""
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
    """Restore edited data in the first of each key and in begun ones; return their external ids."""
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
    """Raise numbers of annotators to those requested; return the external ids concerned."""
    with ledger.read() as connection:  # after `_note` has stored the current external ids
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
    """Delete copies that are not begun; return how many, and how many keys have two begun ones."""
    spare = [copy.external_id for copies in view.there.values() for copy in copies[1:]]
    gone = studio.delete(view.project_id, spare) if spare else set()
    twins = sum(
        any(copy.external_id not in gone for copy in copies[1:]) for copies in view.there.values()
    )
    return len(gone), twins


def _settle_missing(ledger: Ledger, view: _View, now: datetime) -> tuple[int, int]:
    """Settle open labeling tasks that do not exist, under their key or another.

    Those that a killed run was withdrawing are withdrawn. A few missing ones are decisions of
    annotators and are set aside. Many at once are an accident, such as a server restored from an
    old back-up, and wait again.

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


def _report_foreign(ledger: Ledger, view: _View, now: datetime) -> None:
    foreign = view.strangers
    if not foreign:
        return
    _report(
        ledger,
        view,
        f"{len(foreign)} labeling tasks were made by hand, such as number "
        f"{foreign[0].external_id}; they are left alone, and their annotations are ignored",
        now,
    )


def _unread(view: _View) -> list[int]:
    """Return external ids with an unread change; begun ones of a key with copies are always read."""
    found = []
    for key, copies in view.there.items():
        row = view.rows[key]
        if len(copies) > 1:
            found += [copy.external_id for copy in copies if copy.is_begun]
        elif copies[0].updated_at != row.seen_at and (copies[0].is_begun or row.seen_at):
            found.append(copies[0].external_id)
    return found


def _refused(ledger: Ledger, view: _View) -> set[int]:
    """Return external ids with a refused annotation: a task that was corrected may read it now."""
    with ledger.read() as connection:
        refused = refused_in(connection, view.campaign.id)
    return refused & {copy.external_id for copies in view.there.values() for copy in copies}


def _back_in_time(view: _View) -> set[int]:
    """Return labeling tasks that are older than when we read them last; none if they are few.

    Many at once mean that the server was restored from a back-up: missing annotations were not
    deleted by annotators, and older ones are not their last answers.
    """
    found = set()
    for key, copies in view.there.items():
        seen = view.rows[key].seen_at
        if seen is not None and copies[0].updated_at < seen:
            found.add(copies[0].external_id)
    return found if len(found) > _FEW else set()


def _report(ledger: Ledger, view: _View, reason: str, now: datetime) -> None:
    """Add a skip about the campaign's project."""
    with ledger.begin() as connection:
        project = f"project {view.project_id} in Label Studio"
        add_skip(connection, project, reason, current_night_number(connection), now)
