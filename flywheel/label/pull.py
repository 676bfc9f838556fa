"""Brings annotations back from Label Studio: what is new, changed, skipped or gone.

Polling is the truth; pulled twice, nothing changes. A label is not made here. The rule for
what disappears: an annotation that someone deleted counts no longer; a labeling task that
someone deleted keeps the annotations that had come before, and when it was still open its
sample is set aside with a note and not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError
from flywheel.faults import UNREADABLE
from flywheel.label.exchange import Bridge, LabelingTask, ReturnedAnnotation
from flywheel.ledger import Ledger
from flywheel.ledger.labeling import Returned, save_annotations
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import (
    Posted,
    mark_finished,
    mark_sent,
    open_samples,
    posted,
    projects_used,
    set_aside,
)
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.project import Project
from flywheel.records import Annotation, Json, Sample, canonical
from flywheel.task import Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GONE = "its labeling task was deleted in Label Studio before it was finished; it is not sent again"


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
    num_lost: int = 0
    """open labeling tasks that are gone; their samples are set aside"""


def pull(
    ledger: Ledger, blobs: Blobs, studio: Bridge, task: Task, project: Project, now: datetime
) -> PullResult:
    """Store every annotation that changed since the last pull, in one transaction a project.

    Only the samples of labeling tasks that changed are loaded. An annotation whose sample cannot
    be is refused; blobs that do not answer at all (OSError) stop the pull, which loses nothing.

    Raises:
        UnavailableError: Label Studio does not answer; the next pull brings the same.
        RefusedError: Label Studio refuses the token.
    """
    del project  # every project that was ever sent to is read, also one that was renamed since
    with ledger.read() as connection:
        projects = projects_used(connection)
    total = PullResult()
    for project_id in projects:
        total = _sum(total, _pull_project(ledger, blobs, studio, task, project_id, now))
    return total


def _pull_project(
    ledger: Ledger, blobs: Blobs, studio: Bridge, task: Task, project_id: int, now: datetime
) -> PullResult:
    name = f"label studio project {project_id}"
    with ledger.read() as connection:
        before = watermark(connection, name)
        still_open = open_samples(connection, project_id)
    since = _EPOCH + timedelta(microseconds=before) if before else None
    changed = list(studio.pull(project_id, since))
    there = studio.find(project_id, still_open)
    lost = {sample_id: _GONE for sample_id in still_open if sample_id not in there}
    newest = max((found.updated_at for found in changed), default=None)
    with ledger.read() as connection:  # pictures may be slow to load: no lock is held meanwhile
        ours, num_unknown = _sort(connection, project_id, changed)
        answers = {
            sample_id: _answers(connection, blobs, task, sample_id, found.annotations)
            for sample_id, found in ours.items()
        }
    with ledger.begin() as connection:
        result = _store(connection, project_id, ours, answers, now)
        set_aside(connection, lost, now)
        if newest is not None:
            move_watermark(connection, name, (newest - _EPOCH) // timedelta(microseconds=1))
    return replace(result, num_lost=len(lost), num_unknown=num_unknown)


def _store(
    connection: Connection,
    project_id: int,
    ours: Mapping[str, LabelingTask],
    answers: Mapping[str, Sequence[Returned]],
    now: datetime,
) -> PullResult:
    mark_sent(connection, project_id, {key: found.external_id for key, found in ours.items()}, now)
    changes = save_annotations(connection, answers, now)
    mark_finished(connection, {key: found.is_finished for key, found in ours.items()})
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


def _sort(
    connection: Connection, project_id: int, changed: Sequence[LabelingTask]
) -> tuple[dict[str, LabelingTask], int]:
    """The labeling tasks that we sent, by sample, and how many others people worked on."""
    sample_ids = [found.sample_id for found in changed if found.sample_id is not None]
    rows = posted(connection, sample_ids)
    ours, num_unknown = dict[str, LabelingTask](), 0
    for found in changed:
        row = rows.get(found.sample_id or "")
        if found.sample_id and row and _is_ours(row, project_id, found):
            ours[found.sample_id] = found
        else:
            num_unknown += bool(found.annotations)
    return ours, num_unknown


def _is_ours(row: Posted, project_id: int, found: LabelingTask) -> bool:
    """Sent by us; also by a run that was killed before it could note so."""
    if row.state == "waiting":
        return True
    return (row.external_project, row.external_id) == (project_id, found.external_id)


def _answers(
    connection: Connection,
    blobs: Blobs,
    task: Task,
    sample_id: str,
    annotations: Sequence[ReturnedAnnotation],
) -> list[Returned]:
    """What the annotations of one sample say; a payload is in memory only as long as it is read."""
    if all(annotation.skipped for annotation in annotations):
        return [_returned(annotation, sample_id, None, None) for annotation in annotations]
    try:
        (sample,) = load_samples(connection, blobs, [sample_id])
    except FlywheelError as error:
        told = f"its sample cannot be loaded: {error}"[:500]
        return [
            _returned(one, sample_id, None, None if one.skipped else told) for one in annotations
        ]
    return [_read(annotation, sample, task) for annotation in annotations]


def _read(annotation: ReturnedAnnotation, sample: Sample, task: Task) -> Returned:
    answer: Json = None
    refused = None
    if not annotation.skipped:
        try:
            answer = task.labeling.answer(annotation.result, sample)
            refused = _fault(answer)
        except UNREADABLE as error:
            answer, refused = None, f"{error or type(error).__name__}"[:500]
    return _returned(annotation, sample.id, answer, refused)


def _returned(
    annotation: ReturnedAnnotation, sample_id: str, answer: Json, refused: str | None
) -> Returned:
    return Returned(
        annotation=Annotation(
            id=annotation.id,
            sample_id=sample_id,
            annotator=annotation.annotator,
            answer=answer,
            skipped=annotation.skipped,
            lead_time_seconds=annotation.lead_time_seconds,
            updated_at=annotation.updated_at,
        ),
        refused=refused,
    )


def _fault(answer: Json) -> str | None:
    """Why an answer cannot be stored; raises what is unreadable."""
    if canonical(answer) == "null":
        return "labeling.answer of the task gave None; it raises AnnotationError for no answer"
    return None


def _sum(first: PullResult, second: PullResult) -> PullResult:
    return PullResult(
        num_annotations=first.num_annotations + second.num_annotations,
        num_skipped=first.num_skipped + second.num_skipped,
        num_refused=first.num_refused + second.num_refused,
        num_deleted=first.num_deleted + second.num_deleted,
        num_unknown=first.num_unknown + second.num_unknown,
        num_lost=first.num_lost + second.num_lost,
    )
