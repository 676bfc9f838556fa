"""What people's answers of late say of each other: how reliable everybody is, and every answer.

Bounded, however long there has been labeling: the newest answers count, so that a person who
gets better, or worse, is seen to. Refuses to know how labels are made of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.annotators import Crowd, Opinion, group_answers, weigh
from flywheel.ledger.annotations import annotations_of, newest_labels
from flywheel.ledger.annotators import Measured, recent_annotations
from flywheel.records import Annotation, Json, Label, Purpose
from flywheel.settings.labeling import People
from flywheel.task import Task

_WINDOW = 20_000
"""annotations"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What people answered on one sample, one answer a person: the newest."""

    people: tuple[str, ...]
    answers: tuple[Json, ...]
    """oldest first, as people"""
    groups: tuple[int, ...]
    """number of each answer's group"""
    chances: Mapping[int, float]
    """group -> chance that it is right"""

    def members(self, group: int) -> list[Json]:
        """The answers of a group, oldest first."""
        return [a for a, of in zip(self.answers, self.groups, strict=True) if of == group]

    def group_of(self, person: str) -> int:
        """The group of a person's answer."""
        return self.groups[self.people.index(person)]

    def people_of(self, group: int) -> list[str]:
        """Who gave them."""
        return [p for p, of in zip(self.people, self.groups, strict=True) if of == group]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The window of answers, weighed."""

    crowd: Crowd
    samples: Mapping[str, Answered]

    def measured(self) -> list[Measured]:
        """How good everybody is."""
        return [
            Measured(
                annotator=one.person,
                reliability=one.mean,
                low=one.low,
                high=one.high,
                num_answers=one.num_answers,
                num_gold=one.num_gold,
            )
            for one in self.crowd.people.values()
        ]


def weigh_evidence(
    connection: Connection, task: Task, people: People, sample_ids: Sequence[str] = ()
) -> Evidence:
    """Read and weigh the newest answers, and all those on the given samples."""
    recent = recent_annotations(connection, _WINDOW)
    gold = [one for one in recent if one.purpose is Purpose.GOLD]
    window = {one.sample_id for one in recent if one.purpose is not Purpose.GOLD}
    wanted = sorted(window.union(sample_ids))
    given = _by_sample(annotations_of(connection, wanted))
    grouped = {
        key: group_answers([one.answer for one in annotations], task.agree)
        for key, annotations in given.items()
    }
    opinions = [
        Opinion(sample=key, person=one.annotator, group=group, name=_name(one.answer))
        for key, annotations in given.items()
        for one, group in zip(annotations, grouped[key], strict=True)
    ]
    known = newest_labels(connection, [one.sample_id for one in gold])
    own = _by_sample(annotations_of(connection, sorted({one.sample_id for one in gold})))
    measured = [one for one in gold if not _made(own.get(one.sample_id, ()), one.annotator)]
    crowd = weigh([*opinions, *_gold_opinions(measured, known, task)], _tiers(people))
    return Evidence(
        crowd=crowd,
        samples={
            key: Answered(
                people=tuple(one.annotator for one in annotations),
                answers=tuple(one.answer for one in annotations),
                groups=grouped[key],
                chances=crowd.samples[key],
            )
            for key, annotations in given.items()
        },
    )


def _by_sample(annotations: Sequence[Annotation]) -> dict[str, list[Annotation]]:
    """The annotations of each sample, one a person: the newest; oldest first."""
    newest: dict[str, dict[str, Annotation]] = defaultdict(dict)
    for one in annotations:
        newest[one.sample_id].pop(one.annotator, None)
        newest[one.sample_id][one.annotator] = one
    return {key: list(of.values()) for key, of in newest.items()}


def _made(given: Sequence[Annotation], person: str) -> bool:
    """Whether a person helped to make the label: nobody is measured against their own answer."""
    return any(one.annotator == person for one in given)


def _gold_opinions(
    gold: Sequence[Annotation], known: Mapping[str, Label], task: Task
) -> list[Opinion]:
    opinions = []
    for sample_id, given in _by_sample(gold).items():
        label = known.get(sample_id)
        if label is None or label.answer is None:
            continue  # it is known no longer
        for one in given:
            right = task.agree(one.answer, label.answer)
            opinions.append(
                Opinion(
                    sample=f"gold {sample_id}",
                    person=one.annotator,
                    group=0 if right else 1,
                    is_right=right,
                )
            )
    return opinions


def _name(answer: Json) -> str | None:
    """Classes are names; anything else is only near something."""
    return answer if isinstance(answer, str) else None


def _tiers(people: People) -> dict[str, str]:
    tiers = dict.fromkeys(people.domain_experts, "domain expert")
    return tiers | dict.fromkeys(people.deep_experts, "deep expert")
