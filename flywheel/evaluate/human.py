"""How good people are at the task, tier by tier, from the annotations that they really gave.

The five tiers of the lecture: random person, ensemble of random people, domain expert, deep
expert, mixture of experts. There is no truth to hold people against, only other people. Refuses
to know models, and what a score means.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from flywheel.annotators.opinions import largest_groups
from flywheel.evaluate.book import Part, Rows, slice_marks
from flywheel.evaluate.context import BaselineLine
from flywheel.evaluate.scoring import score_answers
from flywheel.evaluate.stats import FEWEST_SAMPLES
from flywheel.records import Annotation, Json, canonical
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.task import Task

_SPLITS = 10
"""Random halvings of a sample's people, where nobody outside of the tier answered."""

_FEWEST_HALVED = 4

_Given = Mapping[str, str]
"""who answered one sample -> the canonical text of the answer"""

_Vote = Callable[[Sequence[str]], list[str]]
"""answers of one sample -> their consensus: one, or all that are tied"""


_ALONE = "each answer against the consensus of all others on the sample"
_TOGETHER = "their consensus against that of all others on the sample, or half of them against half"
_NAME_THEM = "name them in [annotators], and ask them"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tier:
    name: str
    who: str
    """one member"""
    levels: frozenset[str]
    """of its members: random, domain or deep"""
    fewest: int = 1
    """members who must have answered a sample; 1: each is judged alone"""
    needed: str
    """answers on one sample"""
    method: str = _ALONE
    remedy: str = _NAME_THEM
    """when no member answered"""

    @property
    def part(self) -> str:
        return f"people/{self.name}"  # a key of the stored scores


_TIERS = (
    _Tier(
        name="random person",
        who="a random person",
        levels=frozenset({"random"}),
        needed="a random person and somebody else",
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
        needed="a domain expert and somebody else",
    ),
    _Tier(
        name="deep expert",
        who="a deep expert",
        levels=frozenset({"deep"}),
        needed="a deep expert and somebody else",
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
class _Duel:
    """An answer held against another one, on one sample."""

    index: int
    """of the sample among the rows"""
    answer: Json
    reference: Json
    weight: float
    """share of the sample's duels, in (0, 1]"""


def annotator_tables(
    task: Task,
    annotators: AnnotatorSettings,
    rows: Rows,
    annotations: Sequence[Annotation],
    rng: np.random.Generator,
) -> tuple[dict[str, Part], list[BaselineLine]]:
    """The scores of every tier that can be measured on the rows, and a line for each tier.

    Rows are marked with the slices that their samples are in.

    A person of a tier is judged alone: leave one out, each answer against the consensus of all
    others on the same sample. An ensemble (3 random people or 2 experts at least) is judged as
    one: its consensus against that of everyone outside of the tier; where nobody outside of it
    answered, the consensus of a random half of 4 members or more against that of the other half,
    averaged over 10 halvings. The consensus is the most common answer, as the task says which
    answers agree; equally common ones count alike. A person's last answer counts.

    A sample whose duels score differently becomes several rows that share its weight and its
    cluster, in proportion to the duels: means are those over people, and quantiles, precision and
    recall see scores that somebody really got.

    Bias: a reference is no truth. Mistakes in it that others do not share understate people, most
    of all the best ones, the fewer people stand behind it; half an ensemble understates the whole.
    Mistakes that people share, a wrong pre-annotation that both accept for one, overstate them.

    Returns:
        Parts of the book by name, people/TIER; the scores are those of the entrant TIER.

    Raises:
        TaskError: a score is no finite number, or its name changes from sample to sample.
    """
    given = _answers_by_sample(annotations)
    known = [given.get(sample_id, {}) for sample_id in rows.ids]
    levels = dict.fromkeys(annotators.domain_experts, "domain")
    levels |= dict.fromkeys(annotators.deep_experts, "deep")
    marks = slice_marks(task, rows)
    parts, lines, vote = {}, [], _voting(task)
    for tier in _TIERS:
        duels = [
            duel
            for index, answers in enumerate(known)
            for duel in _duels(index, answers, _sides(tier, answers, levels, rng), vote)
        ]
        if duels:
            parts[tier.part] = _part(task, tier, replace(rows, marks=marks), duels)
        note = _note(tier, known, levels, len({duel.index for duel in duels}))
        lines.append(BaselineLine(name=tier.name, kind="human", part=tier.part, note=note))
    return parts, lines


def _answers_by_sample(annotations: Sequence[Annotation]) -> dict[str, dict[str, str]]:
    """Sample id -> the last answer of each person who gave one, in the order of their names."""
    latest: dict[tuple[str, str], Annotation] = {}
    for annotation in sorted(annotations, key=lambda one: (one.updated_at, one.id)):
        latest[annotation.sample_id, annotation.annotator] = annotation
    answers: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for (sample_id, person), annotation in sorted(latest.items()):
        if not annotation.skipped:
            answers[sample_id][person] = canonical(annotation.answer)
    return answers


def _duels(
    index: int, given: _Given, sides: Iterable[tuple[list[str], list[str]]], vote: _Vote
) -> list[_Duel]:
    """Every distinct answer against every distinct reference; the weights sum to 1."""
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for judged, others in sides:
        answers, references = (vote([given[one] for one in side]) for side in (judged, others))
        for answer in answers:
            for reference in references:
                counts[answer, reference] += 1 / (len(answers) * len(references))
    total = math.fsum(counts.values())
    return [
        _Duel(
            index=index, answer=json.loads(one), reference=json.loads(other), weight=count / total
        )
        for (one, other), count in counts.items()
    ]


def _sides(
    tier: _Tier, given: _Given, levels: Mapping[str, str], rng: np.random.Generator
) -> Iterator[tuple[list[str], list[str]]]:
    """Who is judged, and against whom, on one sample; nothing when too few people answered."""
    everyone = list(given)
    members = [person for person in everyone if levels.get(person, "random") in tier.levels]
    outside = [person for person in everyone if person not in members]
    if tier.fewest == 1:
        for member in members if len(everyone) > 1 else ():
            yield [member], [person for person in everyone if person != member]
    elif len(members) >= tier.fewest and outside:
        yield members, outside
    elif len(members) >= _FEWEST_HALVED:
        for _ in range(_SPLITS):
            mixed = rng.permutation(members).tolist()
            yield mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def _voting(task: Task) -> _Vote:
    """The consensus under the task's rules, on canonical texts: one, or all that are tied."""

    @cache  # halvings and tiers ask for the same pairs again and again
    def agree(one: str, other: str) -> bool:
        return one == other or task.agree(json.loads(one), json.loads(other))

    def vote(answers: Sequence[str]) -> list[str]:
        groups = largest_groups(answers, agree)
        return [canonical(task.merge([json.loads(text) for text in group])) for group in groups]

    return vote


def _part(task: Task, tier: _Tier, rows: Rows, duels: Sequence[_Duel]) -> Part:
    """The scores of all duels, one row for each score that a sample got."""
    asked = Rows(
        samples=[rows.samples[duel.index] for duel in duels],
        answers=[duel.reference for duel in duels],
    )
    table = score_answers(task, asked, [duel.answer for duel in duels], tier.name)
    names = sorted(table)
    shares: defaultdict[tuple[int, tuple[float, ...]], float] = defaultdict(float)
    for duel, *scores in zip(duels, *(table[name].tolist() for name in names), strict=True):
        shares[duel.index, tuple(scores)] += duel.weight
    indices = np.array([index for index, _ in shares])
    columns = np.array([scores for _, scores in shares])
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
        scores={tier.name: {name: columns[:, column] for column, name in enumerate(names)}},
    )


def _note(tier: _Tier, known: Sequence[_Given], levels: Mapping[str, str], number: int) -> str:
    """How a tier was measured; for one that was not, why and what would help."""
    if number >= FEWEST_SAMPLES:
        return tier.method
    annotators = {levels.get(person, "random") for given in known for person in given}
    if not annotators & tier.levels:
        return f"no annotation by {tier.who} on the test set; {tier.remedy}"
    return (
        f"{number} test samples have the answers of {tier.needed}, {FEWEST_SAMPLES} are needed; "
        "raise labeling.annotations_per_sample"
    )
