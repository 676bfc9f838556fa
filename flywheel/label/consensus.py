"""Turns the annotations of a sample into its label, when enough people agree on it.

The label changes with the annotations: it is withdrawn when they no longer agree. Only
samples whose annotations changed are looked at. It refuses to know where annotations are from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.consensus import consensus
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.failures import move_failures
from flywheel.ledger.labeling import (
    annotations_of,
    newest_labels,
    settle,
    unsettled_samples,
)
from flywheel.records import SENSOR, Annotation, FailureState, Json, Label
from flywheel.settings.labeling import LabelingSettings
from flywheel.task import Task

_SOURCE = "annotators"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelResult:
    """What came of the annotations that changed."""

    num_labels: int
    """new or changed"""
    num_withdrawn: int
    num_disputed: int
    """samples with answers enough, and no consensus among them"""


def make_labels(
    ledger: Ledger, task: Task, rules: LabelingSettings, now: datetime, night: int | None
) -> LabelResult:
    """Label every sample whose annotations changed since the last call; in one transaction.

    A label row is appended only when the consensus changed, with a NULL answer when there is
    none any more. Failures that got a label move to LABELED.
    """
    with ledger.begin() as connection:
        changed = unsettled_samples(connection)
        answers = _answers(changed, annotations_of(connection, changed))
        before = newest_labels(connection, changed)
        after = {key: _label(key, answers[key], task, rules.agreement) for key in changed}
        news = [label for key, label in after.items() if _is_news(before.get(key), label)]
        add_labels(connection, news, now)
        labeled = [label.sample_id for label in news if label.answer is not None]
        move_failures(connection, labeled, FailureState.LABELED, night, now)
        settle(connection, changed)
    disputed = [
        key
        for key, label in after.items()
        if label.answer is None and len(answers[key]) >= rules.annotations_per_sample
    ]
    return LabelResult(
        num_labels=len(labeled),
        num_withdrawn=len(news) - len(labeled),
        num_disputed=len(disputed),
    )


def _answers(sample_ids: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, list[Json]]:
    """The answers of each sample, one a person: the newest."""
    found: dict[str, dict[str, Json]] = {sample_id: {} for sample_id in sample_ids}
    for annotation in annotations:
        found[annotation.sample_id][annotation.annotator] = annotation.answer
    return {sample_id: list(answers.values()) for sample_id, answers in found.items()}


def _label(sample_id: str, answers: Sequence[Json], task: Task, agreement: int) -> Label:
    found = consensus(answers, agreement, task.agree, task.merge)
    return Label(
        sample_id=sample_id,
        answer=found.answer if found else None,
        reliability=found.reliability if found else 0.0,
        num_annotations=len(answers),
        source=_SOURCE,
    )


def _is_news(before: Label | None, after: Label) -> bool:
    if before is None or before.source == SENSOR:  # people who do not agree yet withdraw nothing
        return after.answer is not None
    return (before.answer, before.reliability) != (after.answer, after.reliability)
