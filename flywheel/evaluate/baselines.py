"""Baselines: scripted rules, simple ML, published results, the requirement, and annotators in five tiers.

A number alone says little; compared with a baseline it shows what to do next. The tiers of the
lecture: random person, ensemble of random people, domain expert, deep expert, mixture of experts.
Without a ground truth, annotators can only be compared with other annotators.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from flywheel.annotators.opinions import largest_groups
from flywheel.errors import TaskError
from flywheel.evaluate.book import BaselineLine, Part, Rows, slice_marks
from flywheel.evaluate.scoring import score_answers
from flywheel.evaluate.stats import FEWEST_SAMPLES
from flywheel.model import isolated
from flywheel.records import Annotation, Entry, Estimate, Json, canonical
from flywheel.settings.judging import Metric, Published
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.task import Baseline, Predictor, Task

_KINDS = ("scripted", "simple ML")
_TAKEN = ("candidate", "champion")


def fit_baselines(
    baselines: Mapping[str, Baseline], train: Rows
) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Predictors fitted on the training rows, and the reason for each that could not be fitted.

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
            with isolated():
                predictors[name] = baseline.fit(list(train.samples), list(train.answers))
        except TaskError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            # Raised by scikit-learn for data that cannot be fitted.
            number = len(train.samples)
            faults[name] = f"not fitted on {number} training rows: {error.__cause__}"
    return predictors, faults


def requirement_entry(metric: Metric) -> Entry | None:
    """The required value of the metric, as a line of the table; None when none is set."""
    if metric.requirement is None:
        return None
    value = metric.requirement
    number = Estimate(value=value, low=value, high=value, num_samples=0)
    return Entry(name="requirement", kind="requirement", metric=number, note="metric.requirement")


def published_entries(published: Sequence[Published]) -> list[Entry]:
    """Published results as lines of the table; their num_samples is 0.

    A result on other data, split, metric, input or compute is shown as unfair and bounds nothing.
    When the source gives no interval, it has no width.
    """
    return [_published(result) for result in published]


def _published(result: Published) -> Entry:
    same = {
        "data": result.same_data,
        "split": result.same_split,
        "metric": result.same_metric,
        "input": result.same_input,
        "compute": result.same_compute,
    }
    other = [name for name, is_same in same.items() if not is_same]
    note = (
        f"{result.source}; unfair, shown only: other {', '.join(other)}" if other else result.source
    )
    low = result.value if result.low is None else result.low
    high = result.value if result.high is None else result.high
    number = Estimate(value=result.value, low=low, high=high, num_samples=0)
    return Entry(
        name=result.name,
        kind="published",
        metric=number,
        note=note,
        is_fair=not other,
        is_same_metric=result.same_metric,
    )


def _check(name: str, baseline: Baseline) -> None:
    if baseline.kind not in _KINDS:
        raise TaskError(
            f"baseline {name!r} is of kind {baseline.kind!r}; use one of {', '.join(_KINDS)}"
        )
    if name in _TAKEN:
        raise TaskError(
            f"a baseline is called {name!r}, which is the name of a model. Give it another name"
        )


_SPLITS = 10
"""Random halvings of a sample's annotators, where none outside the tier answered."""

_FEWEST_HALVED = 4

_Given = Mapping[str, str]
"""annotator of one sample -> the canonical text of the answer"""

_Vote = Callable[[Sequence[str]], list[str]]
"""answers of one sample -> their consensus: one answer, or all that are tied"""


_ALONE = "each answer against the consensus of all others on the sample"
_TOGETHER = "their consensus against that of all others on the sample, or half of them against half"
_NAME_THEM = "name them in [annotators], and ask them"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tier:
    name: str
    who: str
    """one member, in words"""
    levels: frozenset[str]
    """of its members: random, domain or deep"""
    fewest: int = 1
    """members who must have answered a sample; 1: each is measured alone"""
    needed: str
    """annotators who must answer a sample, in words"""
    method: str = _ALONE
    remedy: str = _NAME_THEM
    """what to do when no member answered"""

    @property
    def part(self) -> str:
        return f"people/{self.name}"  # a key of the stored scores


_TIERS = (
    _Tier(
        name="random person",
        who="a random person",
        levels=frozenset({"random"}),
        needed="a random person and another annotator",
        remedy="ask annotators whom [annotators] does not name",
    ),
    _Tier(
        name="ensemble of random people",
        who="a random person",
        levels=frozenset({"random"}),
        fewest=3,
        needed="three random people and an expert, or of four random people",
        method=_TOGETHER,
        remedy="ask annotators whom [annotators] does not name",
    ),
    _Tier(
        name="domain expert",
        who="a domain expert",
        levels=frozenset({"domain"}),
        needed="a domain expert and another annotator",
    ),
    _Tier(
        name="deep expert",
        who="a deep expert",
        levels=frozenset({"deep"}),
        needed="a deep expert and another annotator",
    ),
    _Tier(
        name="mixture of experts",
        who="an expert",
        levels=frozenset({"domain", "deep"}),
        fewest=2,
        needed="two experts and a random person, or of four experts",
        method=_TOGETHER,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Comparison:
    """An answer compared with a reference, on one sample."""

    index: int
    """of the sample among the rows"""
    answer: Json
    reference: Json
    weight: float
    """share of the sample's comparisons, in (0, 1]"""


def annotator_tables(
    task: Task,
    annotators: AnnotatorSettings,
    rows: Rows,
    annotations: Sequence[Annotation],
    rng: np.random.Generator,
) -> tuple[dict[str, Part], list[BaselineLine]]:
    """The scores of every tier that can be measured on the rows, and a line for each tier.

    Formula: a single annotator is measured leave-one-out, each answer against the consensus of all
    others on the same sample. An ensemble (at least 3 random people or 2 experts) is measured as
    one: its consensus against that of all annotators outside the tier; where none answered, the
    consensus of a random half of 4 members or more against that of the other half, averaged over
    10 halvings. The consensus is the most common answer under `Task.agree`; tied ones count
    equally. An annotator's last answer counts.
    A sample whose comparisons score differently becomes several rows that share its weight, in
    proportion to the comparisons, and its cluster: means are over annotators, and quantiles,
    precision and recall see scores that were actually obtained.
    Source: the lecture's tiers of human performance; leave-one-out consensus.
    Bias: a reference is not the truth. Its own mistakes understate annotators, most of all the best
    ones, and the more the fewer answers are behind it; half an ensemble understates the whole.
    Shared mistakes, such as a wrong pre-annotation that both accept, overstate annotators.

    Returns:
        Parts of the book by name, people/TIER, with the scores of the entrant TIER and the marks
        of the slices.

    Raises:
        TaskError: a score is not a finite number, or its name changes from sample to sample.
    """
    given = _answers_by_sample(annotations)
    known = [given.get(sample_id, {}) for sample_id in rows.ids]
    levels = dict.fromkeys(annotators.domain_experts, "domain")
    levels |= dict.fromkeys(annotators.deep_experts, "deep")
    marks = slice_marks(task, rows)
    parts, lines, vote = {}, [], _voting(task)
    for tier in _TIERS:
        comparisons = [
            comparison
            for index, answers in enumerate(known)
            for comparison in _comparisons(index, answers, _sides(tier, answers, levels, rng), vote)
        ]
        if comparisons:
            parts[tier.part] = _part(task, tier, replace(rows, marks=marks), comparisons)
        note = _note(tier, known, levels, len({comparison.index for comparison in comparisons}))
        lines.append(BaselineLine(name=tier.name, kind="human", part=tier.part, note=note))
    return parts, lines


def _answers_by_sample(annotations: Sequence[Annotation]) -> dict[str, dict[str, str]]:
    """Sample id -> the last answer of each annotator, in the order of their names."""
    latest: dict[tuple[str, str], Annotation] = {}
    for annotation in sorted(
        annotations, key=lambda annotation: (annotation.updated_at, annotation.id)
    ):
        latest[annotation.sample_id, annotation.annotator] = annotation
    answers: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for (sample_id, annotator), annotation in sorted(latest.items()):
        if not annotation.skipped:
            answers[sample_id][annotator] = canonical(annotation.answer)
    return answers


def _comparisons(
    index: int, given: _Given, sides: Iterable[tuple[list[str], list[str]]], vote: _Vote
) -> list[_Comparison]:
    """Every distinct answer against every distinct reference; the weights sum to 1."""
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for judged, others in sides:
        answers, references = (
            vote([given[annotator] for annotator in side]) for side in (judged, others)
        )
        for answer in answers:
            for reference in references:
                counts[answer, reference] += 1 / (len(answers) * len(references))
    total = math.fsum(counts.values())
    return [
        _Comparison(
            index=index, answer=json.loads(one), reference=json.loads(other), weight=count / total
        )
        for (one, other), count in counts.items()
    ]


def _sides(
    tier: _Tier, given: _Given, levels: Mapping[str, str], rng: np.random.Generator
) -> Iterator[tuple[list[str], list[str]]]:
    """The measured annotators and their references on one sample; empty when too few answered."""
    everyone = list(given)
    members = [name for name in everyone if levels.get(name, "random") in tier.levels]
    outside = [name for name in everyone if name not in members]
    if tier.fewest == 1:
        for member in members if len(everyone) > 1 else ():
            yield [member], [name for name in everyone if name != member]
    elif len(members) >= tier.fewest and outside:
        yield members, outside
    elif len(members) >= _FEWEST_HALVED:
        for _ in range(_SPLITS):
            mixed = rng.permutation(members).tolist()
            yield mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def _voting(task: Task) -> _Vote:
    """A function that gives the consensus of canonical texts under the task's rules."""

    @cache  # halvings and tiers compare the same pairs many times
    def agree(one: str, other: str) -> bool:
        return one == other or task.agree(json.loads(one), json.loads(other))

    def vote(answers: Sequence[str]) -> list[str]:
        groups = largest_groups(answers, agree)
        return [canonical(task.merge([json.loads(text) for text in group])) for group in groups]

    return vote


def _part(task: Task, tier: _Tier, rows: Rows, comparisons: Sequence[_Comparison]) -> Part:
    """The scores of all comparisons, one row for each distinct score of a sample."""
    asked = Rows(
        samples=[rows.samples[comparison.index] for comparison in comparisons],
        answers=[comparison.reference for comparison in comparisons],
        keeps_answers=rows.keeps_answers,
    )
    table = score_answers(task, asked, [comparison.answer for comparison in comparisons], tier.name)
    names = sorted(table)
    shares: defaultdict[tuple[int, tuple[Any, ...]], float] = defaultdict(float)
    for comparison, *scores in zip(
        comparisons, *(table[name].tolist() for name in names), strict=True
    ):
        shares[comparison.index, tuple(scores)] += comparison.weight
    indices = np.array([index for index, _ in shares])
    seen: Counter[int] = Counter()
    names_of, ids = rows.ids, []
    for index, _ in shares:
        seen[index] += 1
        ids.append(names_of[index] if seen[index] == 1 else f"{names_of[index]}/{seen[index]}")
    return Part(
        ids=tuple(ids),
        weights=rows.weight_array()[indices] * np.array(list(shares.values())),
        clusters=rows.cluster_array()[indices],
        marks={name: values[indices] for name, values in rows.marks.items()},
        scores={
            tier.name: {
                name: np.array([scores[column] for _, scores in shares], dtype=table[name].dtype)
                for column, name in enumerate(names)
            }
        },
    )


def _note(tier: _Tier, known: Sequence[_Given], levels: Mapping[str, str], number: int) -> str:
    """How a tier was measured; if it was not, why, and what to do."""
    if number >= FEWEST_SAMPLES:
        return tier.method
    annotators = {levels.get(person, "random") for given in known for person in given}
    if not annotators & tier.levels:
        return f"no annotation by {tier.who} on the test set; {tier.remedy}"
    return (
        f"{number} test samples have the answers of {tier.needed}, {FEWEST_SAMPLES} are needed; "
        "raise labeling.annotations_per_sample"
    )
