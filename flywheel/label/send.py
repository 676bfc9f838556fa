"""Sends the samples that wait to Label Studio, each exactly once, and says so in the ledger.

A kill between the two is mended by the next run: it finds the labeling tasks that are there.
It refuses to know why a sample was chosen. A labeling task that people delete is their
decision: it is never created again (see `flywheel.label.pull`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.blobs import Blobs
from flywheel.errors import AnnotationError, PayloadError, TaskError
from flywheel.label.exchange import Bridge, Item
from flywheel.ledger import Ledger
from flywheel.ledger.outbox import Waiting, mark_sent, set_aside, waiting
from flywheel.ledger.samples import load_samples
from flywheel.project import Project
from flywheel.records import Sample
from flywheel.task import Task

_SAMPLES_PER_COMMIT = 100  # their payloads are in memory together


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """What sending came to."""

    num_sent: int
    num_refused: int
    """samples that cannot be shown to people; the skips say why"""
    num_waiting: int
    """samples that came while we sent; the next run takes them"""
    project_url: str
    """the page on which people label"""


def send(
    ledger: Ledger, blobs: Blobs, studio: Bridge, task: Task, project: Project, now: datetime
) -> SendResult:
    """Send every sample that waits, the hardest first; run again after a fault, it goes on.

    Raises:
        UnavailableError: Label Studio does not answer; what is not sent yet still waits.
        RefusedError: Label Studio refuses the token or the labeling config.
        TaskError: the task writes pre-annotations that do not fit its labeling config.
    """
    page = studio.ensure_project(
        _title(project), task.labeling.config, project.labeling.annotations_per_sample
    )
    with ledger.read() as connection:
        todo = waiting(connection)
    num_sent = num_refused = 0
    for start in range(0, len(todo), _SAMPLES_PER_COMMIT):
        part = todo[start : start + _SAMPLES_PER_COMMIT]
        items, refused = _items(ledger, blobs, task, part)
        sent = studio.push(page.id, items)
        with ledger.begin() as connection:
            mark_sent(connection, page.id, sent, now)
            set_aside(connection, refused, now)
        num_sent += len(sent)
        num_refused += len(refused)
    with ledger.read() as connection:
        num_waiting = len(waiting(connection))
    return SendResult(
        num_sent=num_sent,
        num_refused=num_refused,
        num_waiting=num_waiting,
        project_url=page.url,
    )


def _title(project: Project) -> str:
    """The title of the project's project in Label Studio."""
    return f"flywheel: {project.name}"


def _items(
    ledger: Ledger, blobs: Blobs, task: Task, part: Sequence[Waiting]
) -> tuple[list[Item], dict[str, str]]:
    """What can be shown to people, and why the others cannot."""
    with ledger.read() as connection:
        samples = load_samples(connection, blobs, [row.sample_id for row in part])
    items, refused = list[Item](), dict[str, str]()
    for row, sample in zip(part, samples, strict=True):
        try:
            items.append(_item(row, sample, task))
        except (PayloadError, AnnotationError, TaskError) as error:
            refused[row.sample_id] = str(error)
    return items, refused


def _item(row: Waiting, sample: Sample, task: Task) -> Item:
    return Item(
        sample_id=row.sample_id,
        picture=task.labeling.picture(sample),
        result=task.labeling.result(row.answer, sample),
        model_version=row.model_digest[:12],
        confidence=row.confidence,
        priority=row.priority,
        reason=row.reason,
        share=row.share,
        inclusion_probability=row.inclusion_probability,
    )
