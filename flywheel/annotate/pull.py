"""Ingests annotations from the labeling backend: new, changed, skipped and deleted ones.

Polling is authoritative and idempotent: pulling twice changes nothing. A deleted annotation no
longer counts. One that is no answer of the task is kept, and asked of another annotator. If a whole labeling task was deleted, the annotations read before are kept (see
`flywheel.annotate.reconcile`, which also stores annotations through `ingest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, bindparam

from flywheel.annotate.backend import (
    BACKEND_LOCK,
    LabelingBackend,
    LabelingTask,
    ReturnedAnnotation,
)
from flywheel.annotate.queue import lose_deleted_projects
from flywheel.blobs import Blobs
from flywheel.errors import BusyError, FlywheelError, UnavailableError, UserError
from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Changes, Returned, save_annotations
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.dialects import Renamer
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import Sent, sent_by_key, update_by_key
from flywheel.ledger.requests import UNREAD, ask_again, finish_requests, open_requests
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.records import Annotation, Json, Purpose, Sample, canonical
from flywheel.task import Task

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PART = 500
"""labeling tasks whose samples are in memory at the same time"""
_EMPTY = (
    "it was submitted empty, which is no answer; if nothing drawn is a right answer of this task, "
    "give Labeling(empty_is_answer=True)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def sums(left: DataclassInstance, right: DataclassInstance) -> dict[str, Any]:
    """Return the sums of the fields of two records of one class."""
    names = [field.name for field in fields(left)]
    return {name: getattr(left, name) + getattr(right, name) for name in names}


@dataclass(frozen=True, kw_only=True, slots=True)
class PullResult:
    """The result of a pull; the numbers count what was not known before."""

    num_annotations: int = 0
    """new or changed answers"""
    num_skipped: int = 0
    """labeling tasks that an annotator skipped"""
    num_refused: int = 0
    """annotations that are not valid answers; the skips hold the reasons"""
    num_deleted: int = 0
    """annotations that were deleted"""
    num_unknown: int = 0
    """annotated labeling tasks that we did not send; ignored, and counted each time they are read"""
    num_again: int = 0
    """labeling tasks that wait again because their project was deleted"""

    def __add__(self, other: PullResult) -> PullResult:
        return PullResult(**sums(self, other))


class IngestInto(NamedTuple):
    """Where annotations are stored, their campaign, and the task that parses them."""

    ledger: Ledger
    blobs: Blobs
    task: Task
    campaign: Campaign


def ingest(
    into: IngestInto,
    changed: Sequence[LabelingTask],
    now: datetime,
    *,
    only_later: bool = True,
    keeps: bool = False,
) -> PullResult:
    """Store the current annotations of a campaign's labeling tasks, one transaction per part.

    Args:
        into: ledger, blobs, task and campaign.
        changed: labeling tasks with all their annotations.
        now: time of ingestion.
        only_later: ignore annotations that are older than the stored ones, as of a slow reader.
        keeps: keep stored annotations that no longer exist.
    """
    ledger, blobs, task, campaign = into
    total = PullResult()
    for start in range(0, len(changed), _PART):
        part = [renamed(found, ledger.rename) for found in changed[start : start + _PART]]
        with ledger.read() as connection:  # loading samples may be slow, so no lock is held
            ours = _ours(connection, campaign, part)
            answers = [
                (row, found, _answers(connection, blobs, task, campaign, row, found))
                for row, found in ours
            ]
        with ledger.begin() as connection:
            total += _store(connection, campaign, answers, now, only_later=only_later, keeps=keeps)
        num_annotated = sum(bool(found.annotations) for found in part)
        num_unknown = num_annotated - sum(bool(found.annotations) for _, found in ours)
        total += PullResult(num_unknown=num_unknown)
    return total


def renamed(found: LabelingTask, rename: Renamer) -> LabelingTask:
    """Return a labeling task with the names of now: a class may be renamed after it was sent."""
    if not rename.pairs:
        return found
    given = [
        replace(annotation, result=[_renamed_region(one, rename) for one in annotation.result])
        for annotation in found.annotations
    ]
    return replace(found, annotations=type(found.annotations)(given))


def _renamed_region(region: dict[str, Json], rename: Renamer) -> dict[str, Json]:
    return {key: rename(value) if key == "value" else value for key, value in region.items()}


def _ours(
    connection: Connection, campaign: Campaign, part: Sequence[LabelingTask]
) -> list[tuple[Sent, LabelingTask]]:
    """Return the labeling tasks that we sent, each with its row, even if a killed run sent it."""
    keys = [found.key for found in part if found.key is not None]
    rows = sent_by_key(connection, keys, campaign.id)
    return [(rows[found.key], found) for found in part if found.key in rows]


def _store(
    connection: Connection,
    campaign: Campaign,
    answers: Sequence[tuple[Sent, LabelingTask, list[Returned]]],
    now: datetime,
    *,
    only_later: bool,
    keeps: bool,
) -> PullResult:
    changes = save_annotations(
        connection,
        {
            _name(campaign, found): (row.sample_id, row.purpose, returned)
            for row, found, returned in answers
        },
        now,
        only_later=only_later,
        keeps=keeps,
    )
    _note_states(connection, [(row, found) for row, found, _ in answers])
    refused = {item.annotation.sample_id for item in changes.saved if item.refused is not None}
    ask_again(connection, sorted(refused), now)
    return noted(connection, changes, now)


def noted(connection: Connection, changes: Changes, now: datetime) -> PullResult:
    """Return what changed, counted; each annotation that was refused is noted with its reason."""
    refused = [item for item in changes.saved if item.refused is not None]
    night = current_night_number(connection)
    for item in refused:
        subject = f"annotation {item.annotation.id} of sample {item.annotation.sample_id}"
        add_skip(connection, subject, str(item.refused), night, now)
    num_skipped = sum(item.annotation.skipped for item in changes.saved)
    return PullResult(
        num_annotations=len(changes.saved) - num_skipped - len(refused),
        num_skipped=num_skipped,
        num_refused=len(refused),
        num_deleted=changes.num_deleted,
    )


def _note_states(connection: Connection, pairs: Sequence[tuple[Sent, LabelingTask]]) -> None:
    """Store the state of each labeling task, and the time of the change that was read.

    Of two labeling tasks with one key, the one that the ledger knows counts. One that a killed run
    sent without recording it keeps waiting: the next run finds it and asks enough annotators.
    """
    # Rows are read again: meanwhile some may have been withdrawn, or their project lost.
    rows = sent_by_key(connection, [row.key for row, _ in pairs])
    own = {
        row.key: found
        for before, found in pairs
        if (row := rows.get(before.key)) is not None
        and found.external_id == row.external_id
        and row.state in ("sent", "done")
    }
    states = {key: "done" if found.is_finished else "sent" for key, found in own.items()}
    update_by_key(connection, {"state": bindparam("value")}, states)
    seen = {key: found.updated_at for key, found in own.items()}
    update_by_key(connection, {"seen_at": bindparam("value")}, seen)


def _answers(
    connection: Connection,
    blobs: Blobs,
    task: Task,
    campaign: Campaign,
    row: Sent,
    found: LabelingTask,
) -> list[Returned]:
    """Parse the annotations of one labeling task; only its own payload is in memory."""
    sample, fault = None, None
    if not all(annotation.skipped for annotation in found.annotations):
        try:
            (sample,) = load_samples(connection, blobs, [row.sample_id])
        except UnavailableError:
            raise  # the next pull reads these annotations again
        except FlywheelError as error:
            fault = f"{UNREAD[0]}: {error}"[:500]
    about = About(row.sample_id, row.purpose, _name(campaign, found))
    return [returned_of(one, about, sample, fault, task) for one in found.annotations]


class About(NamedTuple):
    """What the annotations of a labeling task are about."""

    sample_id: str
    purpose: Purpose
    labeling_task: str
    """campaign/external id"""


def returned_of(
    annotation: ReturnedAnnotation,
    about: About,
    sample: Sample | None,
    fault: str | None,
    task: Task,
) -> Returned:
    """Return an annotation with its answer, or with the reason why it is none.

    Args:
        annotation: as the backend has it.
        about: what it is about.
        sample: the sample; None: it cannot be loaded.
        fault: why it cannot.
        task: reads the answer.
    """
    answer, refused = _answer(annotation, sample, fault, task)
    record = Annotation(
        id=annotation.id,
        sample_id=about.sample_id,
        annotator=annotation.annotator,
        answer=answer,
        skipped=annotation.skipped,
        lead_time_seconds=annotation.lead_time_seconds,
        updated_at=annotation.updated_at,
        purpose=about.purpose,
    )
    return Returned(annotation=record, refused=refused, labeling_task=about.labeling_task)


def _answer(
    annotation: ReturnedAnnotation, sample: Sample | None, fault: str | None, task: Task
) -> tuple[Json, str | None]:
    """Return the answer, or the reason why there is none; both are None for a skip."""
    if annotation.skipped:
        return None, None
    if sample is None:
        return None, fault
    if not annotation.result and not task.labeling.empty_is_answer:
        return None, _EMPTY
    try:
        answer = task.labeling.answer(annotation.result, sample)
        refused = _fault(answer)
    except UserError as error:
        return None, str(error)[:500]
    except UNREADABLE as error:  # what it returned is no JSON
        message = f"{UNREAD[1]} fails on it ({type(error).__name__}: {error})"
        return None, f"{message[:400]}; let it raise AnnotationError, or parse such results too"
    return (None, refused) if refused else (answer, None)


def _fault(answer: Json) -> str | None:
    """Return why an answer cannot be stored; raises ValueError or TypeError if it is not JSON."""
    if canonical(answer) == "null":
        return f"{UNREAD[1]} returned None; let it raise AnnotationError for no answer"
    return None


def _name(campaign: Campaign, found: LabelingTask) -> str:
    return f"{campaign.id}/{found.external_id}"


def pull(
    ledger: Ledger, blobs: Blobs, studio: LabelingBackend, task: Task, now: datetime
) -> PullResult:
    """Store every annotation that changed since the last pull, in all campaigns.

    Only the samples of changed labeling tasks are loaded. If a sample cannot be loaded, its
    annotations are refused. If the blob store does not answer at all, the pull stops without loss.

    Raises:
        UnavailableError: Label Studio or the blob store does not answer; the next pull goes on.
        OSError: the disk of the blob store fails; the next pull goes on.
        RefusedError: Label Studio rejects the token.
    """
    total = PullResult(num_again=_lose(ledger, studio, now))
    with ledger.read() as connection:
        known = all_campaigns(connection)
    for campaign in known:
        if campaign.is_used:
            total += _pull_campaign(ledger, blobs, studio, task, campaign, now)
    if total.num_refused:
        try:
            with hold(ledger, BACKEND_LOCK, lambda: now):
                ask_requested(ledger, studio, now)
        except BusyError:
            pass  # the process that is sending asks, or else the next one
    return total


def ask_requested(ledger: Ledger, studio: LabelingBackend, now: datetime) -> int:
    """Raise the number of annotators where more answers were requested; return how many."""
    with ledger.read() as connection:
        wanted = open_requests(connection)
    for request in wanted:
        studio.raise_overlap(request.external_id, request.num_annotators)
    with ledger.begin() as connection:
        finish_requests(connection, wanted, now)
    return len(wanted)


def _lose(ledger: Ledger, studio: LabelingBackend, now: datetime) -> int:
    try:
        return lose_deleted_projects(ledger, studio, now)
    except BusyError:
        return 0  # the process that is sending does this, or else the next pull


def _pull_campaign(
    ledger: Ledger,
    blobs: Blobs,
    studio: LabelingBackend,
    task: Task,
    campaign: Campaign,
    now: datetime,
) -> PullResult:
    name = f"label studio project {campaign.external_project}"
    changed = list(
        studio.changed_since(int(campaign.external_project or 0), read_upto(ledger, name))
    )
    result = ingest(IngestInto(ledger, blobs, task, campaign), changed, now)
    # The watermark moves last: after a kill in between, the same changes are read again.
    if changed:
        note_read(ledger, name, max(found.updated_at for found in changed))
    return result


def read_upto(ledger: Ledger, mark: str) -> datetime | None:
    """Return up to when changes in a project have been read; None: nothing has."""
    with ledger.read() as connection:
        before = watermark(connection, mark)
    return _EPOCH + timedelta(microseconds=before) if before else None


def note_read(ledger: Ledger, mark: str, newest: datetime) -> None:
    """Note up to when changes in a project have been read."""
    with ledger.begin() as connection:
        move_watermark(connection, mark, (newest - _EPOCH) // timedelta(microseconds=1))
