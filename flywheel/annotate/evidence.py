"""Weighs the newest annotations: reliability of each annotator and answer, and anchoring.

Only the newest annotations count, so that the cost is bounded and an annotator who gets better or
worse is noticed. Anchoring is the bias of annotators towards a model's answer that they are shown.
What is shown was drawn at random, so shown minus blind agreement measures it. In slices where it
is too strong the model's answer is no longer shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.annotate.queue import EVERYWHERE
from flywheel.annotators import Compared, Crowd, Opinion, group_answers, measure_anchoring, weigh
from flywheel.annotators.anchoring import Anchorings
from flywheel.blobs import Blobs
from flywheel.ledger.annotations import annotations_of, newest_labels, recent_looks
from flywheel.ledger.annotators import Measured, recent_annotations
from flywheel.ledger.samples import load_each
from flywheel.records import Annotation, Json, Purpose
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.task import Task

_WINDOW = 20_000
"""newest annotations that count"""

_PART = 250
"""samples whose payloads are in memory at the same time"""
_ANCHORING_WINDOW = 2_000
"""newest annotations that count; fewer, as the slices of their samples need the payloads"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The answers to one sample, the newest of each annotator."""

    annotators: tuple[str, ...]
    answers: tuple[Json, ...]
    """oldest first, in the order of `annotators`"""
    groups: tuple[int, ...]
    """number of each answer's group of answers that agree"""
    chances: Mapping[int, float]
    """group -> probability that it is right"""

    def members(self, group: int) -> list[Json]:
        """Return the answers of a group, oldest first."""
        pairs = zip(self.answers, self.groups, strict=True)
        return [answer for answer, number in pairs if number == group]

    def group_of(self, annotator: str) -> int:
        """Return the group of an annotator's answer."""
        return self.groups[self.annotators.index(annotator)]

    def annotators_of(self, group: int) -> list[str]:
        """Return the annotators whose answers are in a group."""
        pairs = zip(self.annotators, self.groups, strict=True)
        return [annotator for annotator, number in pairs if number == group]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The newest annotations with the reliability of annotators and answers."""

    crowd: Crowd
    samples: Mapping[str, Answered]
    """sample id -> its answers"""

    def measured(self) -> list[Measured]:
        """Return the measured reliability of each annotator."""
        return [
            Measured(
                annotator=annotator.person,
                reliability=annotator.mean,
                low=annotator.low,
                high=annotator.high,
                num_answers=annotator.num_answers,
                num_gold=annotator.num_gold,
            )
            for annotator in self.crowd.annotators.values()
        ]


def weigh_evidence(
    connection: Connection,
    task: Task,
    annotators: AnnotatorSettings,
    sample_ids: Sequence[str] = (),
    window: int | None = None,
) -> Evidence:
    """Weigh the newest annotations, at most `window`, and all of the given samples."""
    recent = recent_annotations(connection, window or _WINDOW)
    among = {
        annotation.sample_id for annotation in recent if annotation.purpose is not Purpose.GOLD
    }
    wanted = sorted(among.union(sample_ids))
    given = by_sample(annotations_of(connection, wanted))
    grouped = {
        key: group_answers([annotation.answer for annotation in annotations], task.agree)
        for key, annotations in given.items()
    }
    opinions = [
        Opinion(
            sample=key,
            person=annotation.annotator,
            group=group,
            name=_name(annotation.answer),
        )
        for key, annotations in given.items()
        for annotation, group in zip(annotations, grouped[key], strict=True)
    ]
    gold = _gold_opinions(connection, recent, task)
    crowd = weigh([*opinions, *gold], _tiers(annotators))
    return Evidence(
        crowd=crowd,
        samples={
            key: Answered(
                annotators=tuple(annotation.annotator for annotation in annotations),
                answers=tuple(annotation.answer for annotation in annotations),
                groups=grouped[key],
                chances=crowd.samples[key],
            )
            for key, annotations in given.items()
        },
    )


def by_sample(annotations: Sequence[Annotation]) -> dict[str, list[Annotation]]:
    """Return sample id -> the newest annotation of each annotator, oldest first."""
    newest: dict[str, dict[str, Annotation]] = defaultdict(dict)
    for annotation in annotations:
        # Removed first, so that the newer one moves to the end.
        newest[annotation.sample_id].pop(annotation.annotator, None)
        newest[annotation.sample_id][annotation.annotator] = annotation
    return {key: list(by_annotator.values()) for key, by_annotator in newest.items()}


def _made(given: Sequence[Annotation], annotator: str) -> bool:
    """Return whether the annotator helped to make the label, and so is not measured against it."""
    return any(annotation.annotator == annotator for annotation in given)


def gold_results(connection: Connection, task: Task) -> dict[str, tuple[int, int]]:
    """Return annotator -> gold questions answered right and answered at all, of the newest answers."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for opinion in _gold_opinions(connection, recent_annotations(connection, _WINDOW), task):
        right, asked = found[opinion.person]
        found[opinion.person] = (right + bool(opinion.is_right), asked + 1)
    return dict(found)


def _gold_opinions(
    connection: Connection, recent: Sequence[Annotation], task: Task
) -> list[Opinion]:
    answered = [annotation for annotation in recent if annotation.purpose is Purpose.GOLD]
    samples = sorted({annotation.sample_id for annotation in answered})
    known = newest_labels(connection, samples)
    own = by_sample(annotations_of(connection, samples))
    gold = [
        annotation
        for annotation in answered
        if not _made(own.get(annotation.sample_id, ()), annotation.annotator)
    ]
    opinions = []
    for sample_id, given in by_sample(gold).items():
        label = known.get(sample_id)
        if label is None or label.answer is None:
            continue  # the label was withdrawn
        for annotation in given:
            right = task.agree(annotation.answer, label.answer)
            opinions.append(
                Opinion(
                    sample=f"gold {sample_id}",
                    person=annotation.annotator,
                    group=0 if right else 1,
                    is_right=right,
                )
            )
    return opinions


def _name(answer: Json) -> str | None:
    """Return the class of an answer; None for answers that are not classes."""
    return answer if isinstance(answer, str) else None


def _tiers(annotators: AnnotatorSettings) -> dict[str, str]:
    tiers = dict.fromkeys(annotators.domain_experts, "domain expert")
    return tiers | dict.fromkeys(annotators.deep_experts, "deep expert")


def slices_of(
    connection: Connection, blobs: Blobs, task: Task, sample_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return sample id -> its slices, without samples that cannot be loaded."""
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(sample_ids) if task.slices else 0, _PART):
        loaded, _ = load_each(connection, blobs, sample_ids[start : start + _PART])
        for key, sample in loaded.items():
            found[key] = tuple(name for name, holds in task.slices.items() if holds(sample))
    return found


def read_compared(
    connection: Connection, blobs: Blobs, task: Task, window: int = _ANCHORING_WINDOW
) -> list[Compared]:
    """Return the newest annotations of chosen samples, compared with the model's answer.

    They include those that were blinded by slice and not at random: a blinded slice stays
    comparable through what was shown before, and is shown again once that has left the window.
    """
    looks = recent_looks(connection, min(window, _ANCHORING_WINDOW))
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
    """Return the slices in which the model's answer is not shown now; see `where_biased`."""
    return where_biased(measure_anchoring(read_compared(connection, blobs, task)), max_anchoring)


def where_biased(measured: Anchorings, max_anchoring: float) -> frozenset[str]:
    """Return the slices in which anchoring significantly exceeds `max_anchoring`.

    EVERYWHERE is among them if it does so over all samples.
    """
    found = {
        name for name, anchoring in measured.slices.items() if anchoring.is_biased(max_anchoring)
    }
    if measured.overall is not None and measured.overall.is_biased(max_anchoring):
        found.add(EVERYWHERE)
    return frozenset(found)
