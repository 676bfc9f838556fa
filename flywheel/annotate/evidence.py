"""What people's answers of late say of each other: how reliable everybody is, and every answer.

Bounded, however long there has been labeling: the newest answers count, so that a person who
gets better, or worse, is seen to. Refuses to know how labels are made of it.

Where people take over too much of what the model says: there nobody is shown it any longer.

Whether an answer was shown had been drawn by chance, so shown against blind is what showing does.
It refuses to know why a person goes along.

The slices of the task that samples are in. It refuses to know what is compared on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.annotate.plan import EVERYWHERE
from flywheel.annotators import Compared, Crowd, Opinion, group_answers, measure_anchoring, weigh
from flywheel.annotators.anchoring import Anchorings
from flywheel.blobs import Blobs
from flywheel.ledger.annotations import annotations_of, newest_labels, recent_looks
from flywheel.ledger.annotators import Measured, recent_annotations
from flywheel.ledger.samples import load_each
from flywheel.records import Annotation, Json, Label, Purpose
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.task import Task

_WINDOW = 20_000
"""annotations"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What people answered on one sample, one answer a person: the newest."""

    annotators: tuple[str, ...]
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
        return self.groups[self.annotators.index(person)]

    def annotators_of(self, group: int) -> list[str]:
        """Who gave them."""
        return [p for p, of in zip(self.annotators, self.groups, strict=True) if of == group]


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
            for one in self.crowd.annotators.values()
        ]


def weigh_evidence(
    connection: Connection,
    task: Task,
    annotators: AnnotatorSettings,
    sample_ids: Sequence[str] = (),
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
    crowd = weigh([*opinions, *_gold_opinions(measured, known, task)], _tiers(annotators))
    return Evidence(
        crowd=crowd,
        samples={
            key: Answered(
                annotators=tuple(one.annotator for one in annotations),
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


def _tiers(annotators: AnnotatorSettings) -> dict[str, str]:
    tiers = dict.fromkeys(annotators.domain_experts, "domain expert")
    return tiers | dict.fromkeys(annotators.deep_experts, "deep expert")


_PART = 250
"""samples whose payloads are in memory together"""


def slices_of(
    connection: Connection, blobs: Blobs, task: Task, sample_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The slices that each sample is in; one that cannot be loaded is missing."""
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(sample_ids) if task.slices else 0, _PART):
        loaded, _ = load_each(connection, blobs, sample_ids[start : start + _PART])
        for key, sample in loaded.items():
            found[key] = tuple(name for name, holds in task.slices.items() if holds(sample))
    return found


_ANCHORING_WINDOW = 2_000
"""annotations; of their samples the slices are asked, which takes the payloads"""


def read_compared(connection: Connection, blobs: Blobs, task: Task) -> list[Compared]:
    """The newest annotations of chosen samples, held against what the model had said.

    Blind ones that were blinded on purpose, and not by chance, are among them: a slice that was
    switched off stays comparable only through what was shown before, and comes back once that is
    out of the window.
    """
    looks = recent_looks(connection, _ANCHORING_WINDOW)
    samples = list(dict.fromkeys(look.sample_id for look in looks))
    slices = slices_of(connection, blobs, task, samples)
    return [
        Compared(
            sample=look.sample_id,
            person=look.annotator,
            is_blind=not look.shown,
            agrees=task.agree(look.answer, look.model_answer),
            slices=slices.get(look.sample_id, ()),
        )
        for look in looks
    ]


def blinded_slices(
    connection: Connection, blobs: Blobs, task: Task, max_anchoring: float
) -> frozenset[str]:
    """Where people are not shown the model's answer, as of now; see `where_biased`."""
    return where_biased(measure_anchoring(read_compared(connection, blobs, task)), max_anchoring)


def where_biased(measured: Anchorings, max_anchoring: float) -> frozenset[str]:
    """The slices in which people agree with the model surely too much more when they see it.

    EVERYWHERE when they do so over all.
    """
    found = {name for name, one in measured.slices.items() if one.is_biased(max_anchoring)}
    if measured.overall is not None and measured.overall.is_biased(max_anchoring):
        found.add(EVERYWHERE)
    return frozenset(found)
