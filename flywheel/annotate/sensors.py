"""Sensors as a source of labels: what a marker or a gripper says, worth what the project trusts it.

A correction is a label of its sample; an outcome that worked makes the model's own answer one.
Such a label only trains: nothing is labeled that lies on the test side of the split. People
always win. Each reading of the feedback goes on where the last one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.nights import add_skip
from flywheel.ledger.windows import Suspect, feedback_in_training, latest, move_watermark, watermark
from flywheel.records import SENSOR, FeedbackKind, Json, Label
from flywheel.settings.learning import Sensors
from flywheel.task import Task

_PIECE = 20_000
# torch says RuntimeError for targets of the wrong shape.
_NO_ANSWER = (*UNREADABLE, RuntimeError)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorResult:
    """What sensors said since the last time."""

    num_labels: int = 0
    """new or changed"""
    num_refused: int = 0
    """answers that the task cannot read; the skips say why"""


def label_from_sensors(
    ledger: Ledger, task: Task, settings: Sensors, now: datetime, night: int | None
) -> SensorResult:
    """Label the samples of the training side that sensors told of since the last call.

    The newest correction of a sample counts; an outcome counts where there is no label at all.
    Labels of people and of the start data stay. What has no reliability is not read, and is
    read from its beginning once it gets one.
    """
    num_labels = num_refused = 0
    kinds = (
        (FeedbackKind.CORRECTION, settings.correction_reliability),
        (FeedbackKind.OUTCOME, settings.outcome_reliability),
    )
    for kind, reliability in kinds:
        for connection, told in _pieces(ledger, kind) if reliability > 0 else ():
            answers, faults = _read(task, kind, told)
            for sample_id, fault in faults:
                add_skip(connection, f"{kind} on sample {sample_id}", fault, night, now)
            news = _news(connection, kind, answers, reliability)
            add_labels(connection, news, now)
            num_labels += len(news)
            num_refused += len(faults)
    return SensorResult(num_labels=num_labels, num_refused=num_refused)


def _pieces(ledger: Ledger, kind: FeedbackKind) -> Iterator[tuple[Connection, Sequence[Suspect]]]:
    """The feedback of a kind since its watermark, each piece in a transaction that moves it."""
    mark = f"{kind} feedback labeled"
    with ledger.read() as connection:
        end = latest(connection, "feedback")
    while True:
        with ledger.begin() as connection:
            after = watermark(connection, mark)
            if after >= end:
                return
            upto = min(after + _PIECE, end)
            yield connection, list(feedback_in_training(connection, kind, after, upto))
            move_watermark(connection, mark, upto)


def _read(
    task: Task, kind: FeedbackKind, told: Sequence[Suspect]
) -> tuple[dict[str, Json], list[tuple[str, str]]]:
    """The newest answer on each sample, and what is none, with the reason."""
    answers, faults = dict[str, Json](), list[tuple[str, str]]()
    for one in told:
        value = one.feedback[1] if one.feedback else None
        if kind is FeedbackKind.OUTCOME:
            if value is not True:
                continue
            value = one.answer
        fault = _fault(task, value)
        if fault:
            faults.append((one.sample_id, fault))
        else:
            answers[one.sample_id] = value
    return answers, faults


def _fault(task: Task, value: Json) -> str:
    """Why a value cannot train; "" when it can."""
    if value is None:
        return "null is no answer; send the right answer as the task writes it"
    try:
        task.scores(value, value)
        task.targets([value])
    except _NO_ANSWER as error:
        return f"{value!r} is no answer of the task: {error or type(error).__name__}"
    return ""


def _news(
    connection: Connection, kind: FeedbackKind, answers: Mapping[str, Json], reliability: float
) -> list[Label]:
    """The labels that are new or change one that a sensor gave."""
    before = newest_labels(connection, list(answers))
    news = []
    for sample_id, answer in answers.items():
        label = Label(
            sample_id=sample_id,
            answer=answer,
            reliability=reliability,
            num_annotations=0,
            source=SENSOR,
        )
        if _gives_way(before.get(sample_id), label, kind):
            news.append(label)
    return news


def _gives_way(known: Label | None, label: Label, kind: FeedbackKind) -> bool:
    """Whether what is known of a sample leaves room for a sensor's label."""
    if known is None or known.answer is None:
        return True
    return kind is FeedbackKind.CORRECTION and known.source == SENSOR and known != label
