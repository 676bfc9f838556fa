"""Turns what people answered into labels, as far as it is likely enough to be right.

A label changes with the annotations, and with what is known of the people: it is withdrawn when
they no longer agree, or when someone turns out to guess. The model never counts as a person:
what it says must not get into the labels that it is tested on. Where an expert has answered, the
experts decide. Refuses to know where annotations are from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flywheel.annotate.evidence import Answered, Evidence, weigh_evidence
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import newest_labels, settle, unsettled_samples
from flywheel.ledger.annotators import save_annotators
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.failures import move_failures
from flywheel.project import Project
from flywheel.records import ANNOTATORS, SENSOR, FailureState, Label
from flywheel.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelResult:
    """What came of the annotations that changed."""

    num_labels: int
    """new or changed"""
    num_withdrawn: int
    num_disputed: int
    """samples with answers enough, and no consensus among them"""


def make_labels(
    ledger: Ledger, task: Task, project: Project, now: datetime, night: int | None
) -> LabelResult:
    """Label every sample whose annotations changed since the last call; in one transaction.

    The labels of other samples in the window of `weigh_evidence` follow when what is known of the
    people has changed so much that their answer is another. A label row is appended only for a
    change, with a NULL answer when there is no label any more. Failures that got a label move to
    LABELED.
    """
    with ledger.begin() as connection:
        changed = unsettled_samples(connection)
        if not changed:
            return LabelResult(num_labels=0, num_withdrawn=0, num_disputed=0)
        evidence = weigh_evidence(connection, task, project.annotators, list(changed))
        looked_at = sorted({*changed, *evidence.samples})
        before = newest_labels(connection, looked_at)
        after = {key: label_of(key, evidence, task, project) for key in looked_at}
        news = [
            label
            for key, label in after.items()
            if _is_news(before.get(key), label, by_annotations=changed.get(key, False))
        ]
        add_labels(connection, news, now)
        labeled = [label.sample_id for label in news if label.answer is not None]
        move_failures(connection, labeled, FailureState.LABELED, night, now)
        save_annotators(connection, evidence.measured(), now)
        settle(connection, list(changed))
    enough = project.labeling.annotations_per_sample
    disputed = [
        key
        for key, is_answered in changed.items()
        if is_answered and after[key].answer is None and after[key].num_annotations >= enough
    ]
    return LabelResult(
        num_labels=len(labeled),
        num_withdrawn=len(news) - len(labeled),
        num_disputed=len(disputed),
    )


def label_of(sample_id: str, evidence: Evidence, task: Task, project: Project) -> Label:
    """The label of a sample as people see it now; its answer is None when there is none."""
    answered = evidence.samples.get(sample_id)
    experts = _experts(answered, evidence, project)
    group, reliability = None, 0.0
    if answered is not None and experts:
        group = _likeliest(answered, {answered.group_of(person) for person in experts})
        reliability = max(evidence.crowd.annotators[person].mean for person in experts)
    elif answered is not None:
        group = _agreed(answered, project)
    if answered is None or group is None:
        answer, reliability = None, 0.0
    else:
        answer = task.merge(answered.members(group))
        reliability = max(reliability, answered.chances[group])
    return Label(
        sample_id=sample_id,
        answer=answer,
        reliability=reliability,
        num_annotations=len(answered.annotators) if answered is not None else 0,
        source=ANNOTATORS,
    )


def _experts(answered: Answered | None, evidence: Evidence, project: Project) -> list[str]:
    """The experts who answered, without those who turned out to guess."""
    annotators = answered.annotators if answered is not None else ()
    least = project.labeling.min_reliability
    return [
        person
        for person in annotators
        if person in project.annotators.experts and evidence.crowd.annotators[person].mean >= least
    ]


def _likeliest(answered: Answered, groups: Iterable[int]) -> int | None:
    """The likeliest of some groups; None when two are as likely."""
    ranked = sorted(groups, key=lambda group: -answered.chances[group])
    if len(ranked) > 1 and answered.chances[ranked[1]] >= answered.chances[ranked[0]]:
        return None
    return ranked[0]


def _agreed(answered: Answered, project: Project) -> int | None:
    """The likeliest group, when it is likely enough and people enough stand behind it."""
    best = _likeliest(answered, answered.chances)
    if best is None or len(answered.annotators_of(best)) < project.labeling.agreement:
        return None
    return best if answered.chances[best] >= project.labeling.min_reliability else None


def _is_news(before: Label | None, after: Label, *, by_annotations: bool) -> bool:
    if before is None or before.source == SENSOR:  # people who do not agree yet withdraw nothing
        return after.answer is not None
    if before.source != ANNOTATORS:  # the start data's stays, whatever people say of it
        return False
    if by_annotations:
        return (before.answer, before.reliability) != (after.answer, after.reliability)
    return bool(before.answer != after.answer)
