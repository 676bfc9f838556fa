"""Brings annotations back from Label Studio: what is new, changed, skipped or gone.

Polling is the truth; pulled twice, nothing changes. A label is not made here. The rule for
what disappears: an annotation that someone deleted counts no longer; of a labeling task that
someone deleted the annotations stay that had come before (see `flywheel.annotate.reconcile`).

Takes what labeling tasks hold now into the ledger, annotation by annotation.

Taken in twice, nothing changes. How it was found that something changed is not known here: a
pull and a reconciliation both end here.

Adds up records of counts, field by field. It refuses to know what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, bindparam

from flywheel.annotate.backend import LabelingBackend, LabelingTask, ReturnedAnnotation
from flywheel.annotate.plan import lose_deleted_projects
from flywheel.blobs import Blobs
from flywheel.errors import BusyError, FlywheelError, UnavailableError, UserError
from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import Sent, sent_by_key, update_by_key
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.records import Annotation, Json, Sample, canonical
from flywheel.task import Task

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def sums(one: DataclassInstance, other: DataclassInstance) -> dict[str, Any]:
    """The fields of two records of one kind, each added up."""
    names = [field.name for field in fields(one)]
    return {name: getattr(one, name) + getattr(other, name) for name in names}


_PART = 500
"""labeling tasks whose samples are in memory together"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PullResult:
    """What pulling came to; the numbers count what was not known before."""

    num_annotations: int = 0
    """new or changed answers of the task"""
    num_skipped: int = 0
    """labeling tasks that a person skipped"""
    num_refused: int = 0
    """annotations that are no answer of the task; the skips say why"""
    num_deleted: int = 0
    """annotations that are gone"""
    num_unknown: int = 0
    """labeling tasks that people worked on and we did not send; ignored, and counted as often
    as they are read"""
    num_again: int = 0
    """labeling tasks that wait again, because their project is gone"""

    def __add__(self, other: PullResult) -> PullResult:
        return PullResult(**sums(self, other))


class IngestInto(NamedTuple):
    """Of which campaign labeling tasks are taken in, where to, and what reads them."""

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
    """Store what labeling tasks of a campaign have now; each part in a transaction of its own.

    `only_later`: what was changed before that which is stored was read too late, and is left.
    `keeps`: what is stored stays though it is there no longer.
    """
    ledger, blobs, task, campaign = into
    total = PullResult()
    for start in range(0, len(changed), _PART):
        part = changed[start : start + _PART]
        with ledger.read() as connection:  # pictures may be slow to load: no lock is held meanwhile
            ours = _ours(connection, campaign, part)
            answers = [
                (row, found, _answers(connection, blobs, task, campaign, row, found))
                for row, found in ours
            ]
        with ledger.begin() as connection:
            total += _store(connection, campaign, answers, now, only_later=only_later, keeps=keeps)
        worked_on = sum(bool(found.annotations) for found in part)
        num_unknown = worked_on - sum(bool(found.annotations) for _, found in ours)
        total += PullResult(num_unknown=num_unknown)
    return total


def _ours(
    connection: Connection, campaign: Campaign, part: Sequence[LabelingTask]
) -> list[tuple[Sent, LabelingTask]]:
    """The labeling tasks that we sent there, each with its row; also by a run that was killed."""
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
    """How far each labeling task has come, and which of its changes was read.

    Of two labeling tasks with one key, the one that the ledger knows says so. One that a run sent
    and did not note, since it was killed, still waits: the next one finds it, and sees to it that
    enough people are asked.
    """
    # As they are now: since they were read, some may have been withdrawn, or their project lost.
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
    """What the annotations of one sample say; a payload is in memory only as long as it is read."""
    name = _name(campaign, found)
    sample, told = None, None
    if not all(annotation.skipped for annotation in found.annotations):
        try:
            (sample,) = load_samples(connection, blobs, [row.sample_id])
        except UnavailableError:
            raise  # nobody knows yet; the next pull reads these annotations again
        except FlywheelError as error:
            told = f"its sample cannot be loaded: {error}"[:500]
    returned = []
    for annotation in found.annotations:
        answer, refused = _read(annotation, sample, told, task)
        record = _annotation(annotation, row, answer)
        returned.append(Returned(annotation=record, refused=refused, labeling_task=name))
    return returned


def _read(
    annotation: ReturnedAnnotation, sample: Sample | None, told: str | None, task: Task
) -> tuple[Json, str | None]:
    """The answer, or why there is none."""
    if annotation.skipped:
        return None, None
    if sample is None:
        return None, told
    try:
        answer = task.labeling.answer(annotation.result, sample)
        fault = _fault(answer)
    except UserError as error:
        return None, str(error)[:500]
    except UNREADABLE as error:
        said = f"labeling.answer of the task fails on it ({type(error).__name__}: {error})"
        return None, f"{said[:400]}; let it raise AnnotationError, or read such results too"
    return (None, fault) if fault else (answer, None)


def _annotation(annotation: ReturnedAnnotation, row: Sent, answer: Json) -> Annotation:
    return Annotation(
        id=annotation.id,
        sample_id=row.sample_id,
        annotator=annotation.annotator,
        answer=answer,
        skipped=annotation.skipped,
        lead_time_seconds=annotation.lead_time_seconds,
        updated_at=annotation.updated_at,
        purpose=row.purpose,
    )


def _fault(answer: Json) -> str | None:
    """Why an answer cannot be stored; raises what is unreadable."""
    if canonical(answer) == "null":
        return "labeling.answer of the task gave None; it raises AnnotationError for no answer"
    return None


def _name(campaign: Campaign, found: LabelingTask) -> str:
    return f"{campaign.id}/{found.external_id}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pull(
    ledger: Ledger, blobs: Blobs, studio: LabelingBackend, task: Task, now: datetime
) -> PullResult:
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


def _lose(ledger: Ledger, studio: LabelingBackend, now: datetime) -> int:
    try:
        return lose_deleted_projects(ledger, studio, now)
    except BusyError:
        return 0  # who sends there sees to it, and the next pull


def _pull_campaign(
    ledger: Ledger,
    blobs: Blobs,
    studio: LabelingBackend,
    task: Task,
    campaign: Campaign,
    now: datetime,
) -> PullResult:
    name = f"label studio project {campaign.external_project}"
    with ledger.read() as connection:
        before = watermark(connection, name)
    since = _EPOCH + timedelta(microseconds=before) if before else None
    changed = list(studio.changed_since(int(campaign.external_project or 0), since))
    result = ingest(IngestInto(ledger, blobs, task, campaign), changed, now)
    newest = max((found.updated_at for found in changed), default=None)
    if newest is not None:
        with ledger.begin() as connection:
            move_watermark(connection, name, (newest - _EPOCH) // timedelta(microseconds=1))
    return result
