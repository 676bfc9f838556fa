"""Makes labels from sensor feedback, with the reliability that the settings give it.

A correction labels its sample; a successful outcome makes the model's own answer the label. Such
labels only train: samples on the test side of the split get none. Labels by annotators always take
precedence. Each call goes on where the last one ended.
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
# torch raises RuntimeError for targets of the wrong shape.
_NO_ANSWER = (*UNREADABLE, RuntimeError)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorResult:
    """Counts of the labels from new sensor feedback."""

    num_labels: int = 0
    """new or changed labels"""
    num_refused: int = 0
    """feedback that is not a valid answer; the skips hold the reasons"""


def label_from_sensors(
    ledger: Ledger, task: Task, settings: Sensors, now: datetime, night: int | None
) -> SensorResult:
    """Label the training samples that have new sensor feedback since the last call.

    The newest correction of a sample counts; an outcome counts only if the sample has no label.
    Labels by annotators and of the start data stay. Feedback of reliability 0 is not read; once it
    gets a reliability, it is read from its beginning.
    """
    num_labels = num_refused = 0
    kinds = (
        (FeedbackKind.CORRECTION, settings.correction_reliability),
        (FeedbackKind.OUTCOME, settings.outcome_reliability),
    )
    for kind, reliability in kinds:
        for connection, feedback in _pieces(ledger, kind) if reliability > 0 else ():
            answers, faults = _read(task, kind, feedback)
            for sample_id, fault in faults:
                add_skip(connection, f"{kind} on sample {sample_id}", fault, night, now)
            labels = _new_labels(connection, kind, answers, reliability)
            add_labels(connection, labels, now)
            num_labels += len(labels)
            num_refused += len(faults)
    return SensorResult(num_labels=num_labels, num_refused=num_refused)


def _pieces(ledger: Ledger, kind: FeedbackKind) -> Iterator[tuple[Connection, Sequence[Suspect]]]:
    """Yield feedback of a kind after its watermark, each piece in a transaction that moves it."""
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
    task: Task, kind: FeedbackKind, feedback: Sequence[Suspect]
) -> tuple[dict[str, Json], list[tuple[str, str]]]:
    """Return the newest valid answer by sample, and invalid ones with the reason."""
    answers, faults = dict[str, Json](), list[tuple[str, str]]()
    for prediction in feedback:
        value = prediction.feedback[1] if prediction.feedback else None
        if kind is FeedbackKind.OUTCOME:
            if value is not True:
                continue
            value = prediction.answer
        fault = _fault(task, value)
        if fault:
            faults.append((prediction.sample_id, fault))
        else:
            answers[prediction.sample_id] = value
    return answers, faults


def _fault(task: Task, value: Json) -> str:
    """Return why a value cannot train; "" if it can."""
    if value is None:
        return "null is not an answer; send the right answer in the task's format"
    try:
        task.scores(value, value)
        task.targets([value])
    except _NO_ANSWER as error:
        return f"{value!r} is not an answer of the task: {error or type(error).__name__}"
    return ""


def _new_labels(
    connection: Connection, kind: FeedbackKind, answers: Mapping[str, Json], reliability: float
) -> list[Label]:
    """Return the labels that are new or replace one by a sensor."""
    before = newest_labels(connection, list(answers))
    labels = []
    for sample_id, answer in answers.items():
        label = Label(
            sample_id=sample_id,
            answer=answer,
            reliability=reliability,
            num_annotations=0,
            source=SENSOR,
        )
        if _gives_way(before.get(sample_id), label, kind):
            labels.append(label)
    return labels


def _gives_way(known: Label | None, label: Label, kind: FeedbackKind) -> bool:
    """Return whether a sensor's label may replace the known one."""
    if known is None or known.answer is None:
        return True
    return kind is FeedbackKind.CORRECTION and known.source == SENSOR and known != label
