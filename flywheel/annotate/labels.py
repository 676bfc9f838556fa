"""Makes labels: from annotations by consensus, and from the corrections of trusted sensors.

A label changes with the annotations and with the measured reliability of annotators: it is
withdrawn if they no longer agree, or if one turns out to guess. Where an expert has answered, the
experts decide. The model never counts as an annotator: its answers must not leak into the labels
that test it.

Labels from sensors only train: samples on the test side of the split get none, and labels by
annotators always take precedence. Each call goes on where the last one ended. Outcomes are no labels;
what they say of an answer trains too, see `flywheel.dataset.outcomes`.

Labels also rest on words: those that one annotator alone gave, whom no gold question vouches for. A
wrong answer that is always the same looks like the truth as long as all labels are of one annotator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import scipy
from sqlalchemy import Connection

from flywheel.annotate.evidence import Answered, Evidence, by_sample, gold_results, weigh_evidence
from flywheel.faults import NO_ANSWER
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import annotations_of, newest_labels, settle, unsettled_samples
from flywheel.ledger.annotators import save_annotators
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.failures import move_failures
from flywheel.ledger.nights import add_skip
from flywheel.ledger.windows import Suspect, feedback_in_training, pieces
from flywheel.project import Project
from flywheel.records import (
    ANNOTATORS,
    IMPORTED,
    SENSOR,
    FailureState,
    FeedbackKind,
    Json,
    Label,
    Word,
)
from flywheel.settings.learning import Sensors
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
    # Disagreement does not withdraw a label of a sensor or a file, which gives way to annotators.
    if before is None or before.source in (SENSOR, IMPORTED):
        return after.answer is not None
    if before.source != ANNOTATORS:  # labels of the start data never change
        return False
    if by_annotations:
        return (before.answer, before.reliability) != (after.answer, after.reliability)
    return bool(before.answer != after.answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorResult:
    """Counts of the labels from new sensor feedback."""

    num_labels: int = 0
    """new or changed labels"""
    num_refused: int = 0
    """feedback that is not a valid answer; the skips hold the reasons"""
    num_unused: int = 0
    """corrections since the last call that make no labels, since their reliability is 0"""


def label_from_sensors(
    ledger: Ledger, task: Task, settings: Sensors, now: datetime, night: int | None
) -> SensorResult:
    """Label the training samples that have new sensor feedback since the last call.

    The newest correction of a sample counts. Labels by annotators and of the start data stay.
    Corrections of reliability 0 are not read; once they get a reliability, they are read from
    their beginning.
    """
    num_labels = num_refused = 0
    reliability = settings.correction_reliability
    kind = FeedbackKind.CORRECTION
    if reliability == 0:
        passed = pieces(ledger, "feedback", f"{kind} feedback passed over")
        new = (feedback_in_training(connection, kind, *ends) for connection, *ends in passed)
        return SensorResult(num_unused=sum(sum(1 for _ in each) for each in new))
    windows = pieces(ledger, "feedback", f"{kind} feedback labeled")
    for connection, after, upto in windows:
        answers, faults = _read(task, feedback_in_training(connection, kind, after, upto))
        for sample_id, fault in faults:
            add_skip(connection, f"correction on sample {sample_id}", fault, night, now)
        labels = _new_labels(connection, answers, reliability)
        add_labels(connection, labels, now)
        num_labels += len(labels)
        num_refused += len(faults)
    return SensorResult(num_labels=num_labels, num_refused=num_refused)


def _read(task: Task, feedback: Iterable[Suspect]) -> tuple[dict[str, Json], list[tuple[str, str]]]:
    """Return the newest valid answer by sample, and invalid ones with the reason."""
    answers, faults = dict[str, Json](), list[tuple[str, str]]()
    for prediction in feedback:
        value = prediction.feedback[1] if prediction.feedback else None
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
    except NO_ANSWER as error:
        return f"{value!r} is not an answer of the task: {error or type(error).__name__}"
    return ""


def _new_labels(
    connection: Connection, answers: Mapping[str, Json], reliability: float
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
        if _gives_way(before.get(sample_id), label):
            labels.append(label)
    return labels


def _gives_way(known: Label | None, label: Label) -> bool:
    """Return whether a sensor's label may replace the known one."""
    if known is None or known.answer is None:
        return True
    return known.source == SENSOR and known != label


_TAIL = 0.05


def is_measured(num_right: int, num_gold: int) -> bool:
    """Return whether gold questions show that more than half of an annotator's answers are right.

    Formula: the 0.05 quantile of Beta(right + 1, wrong + 1) is above 1/2: 4 of 4, or 7 of 8.
    """
    wrong = num_gold - num_right
    return float(scipy.special.betaincinv(num_right + 1, wrong + 1, _TAIL)) > 0.5


def words(
    connection: Connection, task: Task, project: Project, sample_ids: Sequence[str]
) -> list[Word]:
    """Return the annotators who alone gave labels of these samples and are not measured, by name.

    Experts that [annotators] names are vouched for by the project.
    """
    gold = gold_results(connection, task)
    trusted = project.annotators.experts | {
        annotator for annotator, result in gold.items() if is_measured(*result)
    }
    labels = newest_labels(connection, sample_ids)
    alone: dict[str, list[str]] = defaultdict(list)
    for sample_id, given in by_sample(annotations_of(connection, sample_ids)).items():
        label = labels.get(sample_id)
        if label is None or label.answer is None:
            continue
        agreeing = {one.annotator for one in given if task.agree(one.answer, label.answer)}
        if len(agreeing) == 1 and not agreeing & trusted:
            alone[agreeing.pop()].append(sample_id)
    return [
        Word(
            annotator=annotator,
            num_gold=gold.get(annotator, (0, 0))[1],
            num_gold_right=gold.get(annotator, (0, 0))[0],
            sample_ids=tuple(sorted(ids)),
        )
        for annotator, ids in sorted(alone.items())
    ]
