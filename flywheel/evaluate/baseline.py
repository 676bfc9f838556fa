"""What a model has to beat: scripted rules, simple ML, people, and what the product requires.

A number alone says little; beside a baseline it says what to do next. Refuses to know the
candidate and the champion.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.errors import TaskError
from flywheel.evaluate.rows import Rows, ScoreTable
from flywheel.evaluate.scoring import score_one
from flywheel.project import Metric
from flywheel.records import Annotation, Entry, Estimate, Json, canonical
from flywheel.task import Baseline, Predictor, Task

_KINDS = ("scripted", "simple ML")
_TAKEN = ("candidate", "champion")


def fit_baselines(
    baselines: Mapping[str, Baseline], train: Rows
) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Predictors fitted on the training rows; and for those that could not be, the reason.

    Raises:
        TaskError: a baseline has a name or a kind that a report cannot show.
    """
    predictors: dict[str, Predictor] = {}
    faults: dict[str, str] = {}
    for name, baseline in baselines.items():
        _check(name, baseline)
        if not train.samples:
            faults[name] = "not fitted: there are no training rows"
            continue
        try:
            predictors[name] = baseline.fit(train.samples, train.answers)
        except ValueError as error:  # scikit-learn's word for data that cannot be fitted
            faults[name] = f"not fitted on {len(train.samples)} training rows: {error}"
    return predictors, faults


def requirement_entry(metric: Metric) -> Entry | None:
    """The number that the product needs, as a line of the table; None when none is set."""
    if metric.requirement is None:
        return None
    value = metric.requirement
    number = Estimate(value=value, low=value, high=value, num_samples=0)
    return Entry(name="requirement", kind="requirement", metric=number, note="metric.requirement")


def annotator_scores(
    task: Task, rows: Rows, annotations: Sequence[Annotation]
) -> tuple[Rows, ScoreTable]:
    """How well people agree with people, on the rows that at least two of them answered.

    Formula: leave one out. Each person's answer is scored against the consensus of the others on
    the same sample, the answer that most of them gave; among equally common ones the score is the
    mean over them. A sample's score is the mean over its people. A person's last answer counts.

    Returns:
        The rows that at least two people answered, and their scores; {} when there are none.
    """
    given = _answers_by_sample(annotations)
    kept = [index for index, name in enumerate(rows.ids) if len(given[name]) >= 2]
    agreed = Rows(
        samples=[rows.samples[index] for index in kept],
        answers=[rows.answers[index] for index in kept],
        weights=rows.weight_array()[kept],
    )
    scores = [_leave_one_out(task, sample.id, given[sample.id]) for sample in agreed.samples]
    names = sorted(scores[0]) if scores else []
    return agreed, {name: np.array([row[name] for row in scores]) for name in names}


def _check(name: str, baseline: Baseline) -> None:
    if baseline.kind not in _KINDS:
        raise TaskError(
            f"baseline {name!r} is of kind {baseline.kind!r}; write one of {', '.join(_KINDS)}"
        )
    if name in _TAKEN:
        raise TaskError(f"a baseline is called {name!r}; {' and '.join(_TAKEN)} are the models")


def _answers_by_sample(annotations: Sequence[Annotation]) -> defaultdict[str, list[Json]]:
    """Sample id -> one answer for each person who gave one, in the order of their names."""
    latest: dict[tuple[str, str], Annotation] = {}
    for annotation in sorted(annotations, key=lambda one: (one.updated_at, one.id)):
        latest[annotation.sample_id, annotation.annotator] = annotation
    answers: defaultdict[str, list[Json]] = defaultdict(list)
    for (sample_id, _), annotation in sorted(latest.items()):
        if not annotation.skipped:
            answers[sample_id].append(annotation.answer)
    return answers


def _leave_one_out(task: Task, sample_id: str, answers: list[Json]) -> dict[str, float]:
    people = []
    for index, answer in enumerate(answers):
        labels = _consensus(answers[:index] + answers[index + 1 :])
        people.append(_mean([score_one(task, sample_id, answer, label) for label in labels]))
    return _mean(people)


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _consensus(answers: list[Json]) -> list[Json]:
    """The most common answers: one, or all that are tied."""
    texts = [canonical(answer) for answer in answers]
    counts = Counter(texts)
    most = max(counts.values())
    return [answers[texts.index(text)] for text in counts if counts[text] == most]
