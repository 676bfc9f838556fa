"""Sends waiting samples to the labeling backend, each exactly once, and records it in the ledger.

A run that was killed in between is completed by the next one, which finds the labeling tasks that
exist. What was in a deleted project is sent again. A single labeling task that an annotator
deleted is not (see `flywheel.annotate.reconcile`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flywheel.annotate.backend import (
    BACKEND_LOCK,
    LabelingBackend,
    NewLabelingTask,
    task_data,
)
from flywheel.annotate.label_studio.client import misfits
from flywheel.annotate.label_studio.task_writer import task_payload
from flywheel.annotate.pull import ask_requested
from flywheel.annotate.queue import lose_deleted_projects, place, plan_part
from flywheel.blobs import Blobs
from flywheel.errors import RefusedError, TaskError, UnavailableError, UserError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import (
    EXPERTS,
    Campaign,
    all_campaigns,
    found_project,
    labeling_projects,
)
from flywheel.ledger.engine import project_id
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.outbox import (
    Planned,
    Waiting,
    mark_sent,
    num_waiting,
    plan,
    set_aside,
    waiting,
)
from flywheel.ledger.samples import load_each
from flywheel.media import check_fit, check_shown, type_of
from flywheel.project import Project
from flywheel.records import Json, Media, Sample, Webhook
from flywheel.task import Task

_SAMPLES_PER_COMMIT = 500  # their payloads are in memory at the same time


def shown_of(sample: Sample, task: Task) -> dict[str, Json | Media]:
    """Return what annotators see.

    Raises:
        UserError: the task gives none, or a browser cannot show it.
    """
    shown = dict(task.labeling.data(sample))
    check_fit(task.labeling.config, shown)
    check_shown(shown)
    return shown


def _file_name(sample_id: str, name: str, media: Media) -> str:
    return f"{sample_id}-{name}.{type_of(media).extension}"


def pre_annotation_of(row: Waiting, sample: Sample, task: Task) -> list[dict[str, Json]]:
    """Return the model's answer as a pre-annotation; empty when blind.

    Raises:
        UserError: the task cannot show the answer.
    """
    if row.model_digest is None or not row.shown:
        return []
    return task.labeling.result(row.answer, sample)


def item_of(
    row: Waiting,
    data: dict[str, Json],
    result: list[dict[str, Json]],
    project: Project,
    now: datetime,
) -> NewLabelingTask:
    """Return the labeling task to create."""
    shown: dict[str, Json] = {}
    if row.shown and row.confidence is not None and row.model_digest is not None:
        shown = {
            "reason": row.reason,
            "confidence": round(float(row.confidence), 4),
            "model": row.model_digest[:12],
        }
    return NewLabelingTask(
        key=str(row.key),
        sample_id=row.sample_id,
        data=data,
        result=result,
        priority=place(row.priority, row.created_at, now, project.labeling.ageing_nights),
        num_annotators=row.num_annotators,
        shown=shown,
    )


def misfit(item: NewLabelingTask, task: Task) -> str | None:
    """Return why a pre-annotation does not fit the config, and what to do; None if it fits."""
    prediction = task_payload(item)["predictions"][0]
    faults = misfits(task.labeling.config, prediction) if item.result else []
    if not faults:
        return None
    return (
        f"does not fit the labeling config ({'; '.join(faults)}), so it is not shown; if the "
        "current model still gives such answers, fix labeling.result of the task"
    )


def blinded(item: NewLabelingTask) -> NewLabelingTask:
    """Return the labeling task without the model's answer, confidence and reason."""
    return replace(item, result=[], shown={})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """Everything that sending needs."""

    ledger: Ledger
    blobs: Blobs
    studio: LabelingBackend
    task: Task
    project: Project
    blinded: frozenset[str] = frozenset()
    """slices without pre-annotations, see `flywheel.annotate.evidence`"""
    webhook: Webhook | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """The result of sending."""

    num_sent: int
    num_refused: int
    """samples that cannot be shown to annotators; the skips hold the reasons"""
    num_waiting: int
    """samples that were queued meanwhile; the next run sends them"""
    num_more: int
    """labeling tasks with a raised number of annotators"""
    project_url: str | None
    """the page for annotators; None before anything was sent"""


def send(sender: Sender, now: datetime) -> SendResult:
    """Send every waiting sample, the hardest first; after a fault, another call goes on.

    Raises:
        BusyError: another process is sending.
        UnavailableError: Label Studio does not answer; what is not sent still waits.
        RefusedError: Label Studio rejects the token or the labeling config.
    """
    ledger = sender.ledger
    num_sent = num_refused = 0
    projects: dict[int, int] = {}
    with hold(ledger, BACKEND_LOCK, lambda: now):
        lose_deleted_projects(ledger, sender.studio, now)
        with ledger.read() as connection:
            todo = waiting(connection)
        for start in range(0, len(todo), _SAMPLES_PER_COMMIT):
            part, refused = _planned(sender, todo[start : start + _SAMPLES_PER_COMMIT], now)
            for campaign, rows in _by_campaign(ledger, part):
                if campaign.id not in projects:
                    projects[campaign.id] = _project(sender, campaign, now)
                ready, unfit = _send_part(sender, projects[campaign.id], rows, now)
                num_sent += ready
                refused |= unfit
            with ledger.begin() as connection:
                set_aside(connection, refused, now)
            num_refused += len(refused)
        num_more = ask_requested(ledger, sender.studio, now)
        with ledger.read() as connection:
            num_left, numbers = num_waiting(connection), labeling_projects(connection)
        return SendResult(
            num_sent=num_sent,
            num_refused=num_refused,
            num_waiting=num_left,
            num_more=num_more,
            project_url=sender.studio.page(numbers[-1]) if numbers else None,
        )


def _planned(
    sender: Sender, part: Sequence[Waiting], now: datetime
) -> tuple[list[tuple[Waiting, Sample]], dict[str, str]]:
    """Plan a part; return rows with their samples, and key -> reason for those that fail to load."""
    names = list(dict.fromkeys(row.sample_id for row in part))
    with sender.ledger.read() as connection:
        samples, faults = load_each(connection, sender.blobs, names)
    rows = [(row, samples.get(row.sample_id) or _bare(row)) for row in part]
    # Committed before anything is pushed, so that a retry pushes the same keys.
    with sender.ledger.begin() as connection:
        placed = plan_part(connection, rows, sender.task, sender.project, sender.blinded, now)
    return (
        [(row, samples[row.sample_id]) for row in placed if row.sample_id in samples],
        {str(row.key): faults[row.sample_id] for row in placed if row.sample_id in faults},
    )


def _bare(row: Waiting) -> Sample:
    """Return a sample without payload, so that one that fails to load is planned, then set aside."""
    return Sample(id=row.sample_id, payload=b"", media_type="", metadata=row.metadata)


def _by_campaign(
    ledger: Ledger, part: Sequence[tuple[Waiting, Sample]]
) -> Iterator[tuple[Campaign, list[tuple[Waiting, Sample]]]]:
    with ledger.read() as connection:
        known = all_campaigns(connection)
    for campaign in known:
        rows = [(row, sample) for row, sample in part if row.campaign == campaign.id]
        if rows:
            yield campaign, rows


def _project(sender: Sender, campaign: Campaign, now: datetime) -> int:
    """Return the id of the campaign's project in Label Studio, which is created if missing."""
    studio = sender.studio
    num_annotators = (
        1 if campaign.audience == EXPERTS else sender.project.labeling.annotations_per_sample
    )
    with sender.ledger.read() as connection:
        owner = project_id(connection)
    found = studio.ensure(
        campaign.title,
        sender.task.labeling.config,
        campaign.external_project,
        num_annotators,
        owner=owner,
    )
    if campaign.external_project not in (None, found.id):
        raise UnavailableError(
            f"project {campaign.external_project} in Label Studio was just deleted; run this "
            "again, and what was in it is sent to a new one"
        )
    if campaign.external_project is None:
        with sender.ledger.begin() as connection:
            found_project(connection, campaign.id, found.id)
    if sender.webhook is not None:
        _register_webhook(sender, found.id, sender.webhook, now)
    return found.id


def _register_webhook(sender: Sender, project_id: int, webhook: Webhook, now: datetime) -> None:
    """Register the webhook. A failure is only a skip: the night pulls all annotations anyway."""
    try:
        sender.studio.register_webhook(project_id, webhook.url, webhook.secret)
    except RefusedError as error:
        reason = (
            f"it does not notify {webhook.url} of annotations, the night pulls them: {error} "
            "(LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false lets it call a private address)"
        )
        with sender.ledger.begin() as connection:
            night = current_night_number(connection)
            add_skip(connection, "webhook of Label Studio", reason, night, now)


def _send_part(
    sender: Sender,
    project_id: int,
    part: Sequence[tuple[Waiting, Sample]],
    now: datetime,
) -> tuple[int, dict[str, str]]:
    """Send what can be shown; return the number sent, and key -> reason for the others."""
    shown, results, refused = dict[str, Any](), dict[str, list[Json]](), dict[str, str]()
    for row, sample in part:
        try:
            found = shown_of(sample, sender.task)
            results[str(row.key)] = pre_annotation_of(row, sample, sender.task)
            shown[row.sample_id] = found
        except UserError as error:
            refused[str(row.key)] = str(error)
    data = _published(sender.studio, project_id, shown)
    items = [
        item_of(row, data[row.sample_id], results[str(row.key)], sender.project, now)
        for row, _ in part
        if str(row.key) in results
    ]
    # Pushed before it is recorded: after a kill in between, the next push finds the keys there.
    try:
        sent = sender.studio.push(project_id, items)
    except TaskError:
        items = _without_misfits(sender, part, items, now)
        sent = sender.studio.push(project_id, items)
    with sender.ledger.begin() as connection:
        written = {item.key: task_data(item) for item in items}
        mark_sent(connection, sent, written, {item.key: item.priority for item in items}, now)
    return len(sent), refused


def _published(
    studio: LabelingBackend, project_id: int, shown: Mapping[str, dict[str, Json | Media]]
) -> dict[str, dict[str, Json]]:
    """What each sample shows, with addresses in place of media."""
    files = {
        _file_name(sample_id, name, value): value
        for sample_id, values in shown.items()
        for name, value in values.items()
        if isinstance(value, Media)
    }
    addresses = studio.publish(project_id, files)
    return {
        sample_id: {
            name: addresses[_file_name(sample_id, name, value)]
            if isinstance(value, Media)
            else value
            for name, value in values.items()
        }
        for sample_id, values in shown.items()
    }


def _without_misfits(
    sender: Sender,
    part: Sequence[tuple[Waiting, Sample]],
    items: Sequence[NewLabelingTask],
    now: datetime,
) -> list[NewLabelingTask]:
    """Return the items, blinded where the pre-annotation does not fit the labeling config.

    It may be the answer of an old model with a class that was renamed since.
    """
    faults = {item.key: misfit(item, sender.task) for item in items}
    with sender.ledger.begin() as connection:
        night = current_night_number(connection)
        for row, _ in part:
            fault = faults.get(str(row.key))
            if fault is not None:
                blind = Planned(campaign=int(row.campaign or 0), key=str(row.key), shown=False)
                plan(connection, {(row.sample_id, row.purpose): blind})
                subject = f"pre-annotation of sample {row.sample_id}"
                add_skip(connection, subject, f"{row.answer!r} {fault}", night, now)
    return [item if faults[item.key] is None else blinded(item) for item in items]
