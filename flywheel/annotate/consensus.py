"""Makes labels from annotations, where the consensus is reliable enough.

A label changes with the annotations and with the measured reliability of annotators: it is
withdrawn if they no longer agree, or if one turns out to guess. Where an expert has answered, the
experts decide. The model never counts as an annotator: its answers must not leak into the labels
that test it.
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
    """Counts of the labels that changed."""

    num_labels: int
    """new or changed labels"""
    num_withdrawn: int
    """labels that no longer hold"""
    num_disputed: int
    """samples with enough answers and no consensus"""


def make_labels(
    ledger: Ledger, task: Task, project: Project, now: datetime, night: int | None
) -> LabelResult:
    """Label every sample whose annotations changed since the last call, in one transaction.

    Labels of other samples in the window of `weigh_evidence` are replaced if new reliabilities of
    annotators change their answer. A label row is appended only for a change; its answer is NULL
    if there is no label any more. Failures that got a label move to LABELED.
    """
    with ledger.begin() as connection:
        changed = unsettled_samples(connection)
        if not changed:
            return LabelResult(num_labels=0, num_withdrawn=0, num_disputed=0)
        evidence = weigh_evidence(connection, task, project.annotators, list(changed))
        considered = sorted({*changed, *evidence.samples})
        before = newest_labels(connection, considered)
        after = {key: label_of(key, evidence, task, project) for key in considered}
        changes = [
            label
            for key, label in after.items()
            if _is_change(before.get(key), label, by_annotations=changed.get(key, False))
        ]
        add_labels(connection, changes, now)
        labeled = [label.sample_id for label in changes if label.answer is not None]
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
        num_withdrawn=len(changes) - len(labeled),
        num_disputed=len(disputed),
    )


def label_of(sample_id: str, evidence: Evidence, task: Task, project: Project) -> Label:
    """Return the current label of a sample; its answer is None without a consensus."""
    answered = evidence.samples.get(sample_id)
    experts = _experts(answered, evidence, project)
    group, reliability = None, 0.0
    if answered is not None and experts:
        group = _likeliest(answered, {answered.group_of(expert) for expert in experts})
        reliability = max(evidence.crowd.annotators[expert].mean for expert in experts)
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
    """Return the experts who answered, without unreliable ones."""
    annotators = answered.annotators if answered is not None else ()
    least = project.labeling.min_reliability
    return [
        annotator
        for annotator in annotators
        if annotator in project.annotators.experts
        and evidence.crowd.annotators[annotator].mean >= least
    ]


def _likeliest(answered: Answered, groups: Iterable[int]) -> int | None:
    """Return the likeliest of some groups; None for a tie."""
    ranked = sorted(groups, key=lambda group: -answered.chances[group])
    if len(ranked) > 1 and answered.chances[ranked[1]] >= answered.chances[ranked[0]]:
        return None
    return ranked[0]


def _agreed(answered: Answered, project: Project) -> int | None:
    """Return the likeliest group, if it is likely enough and enough annotators chose it."""
    best = _likeliest(answered, answered.chances)
    if best is None or len(answered.annotators_of(best)) < project.labeling.agreement:
        return None
    return best if answered.chances[best] >= project.labeling.min_reliability else None


def _is_change(before: Label | None, after: Label, *, by_annotations: bool) -> bool:
    if before is None or before.source == SENSOR:  # disagreement does not withdraw a sensor's label
        return after.answer is not None
    if before.source != ANNOTATORS:  # labels of the start data never change
        return False
    if by_annotations:
        return (before.answer, before.reliability) != (after.answer, after.reliability)
    return bool(before.answer != after.answer)
