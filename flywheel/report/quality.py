"""How well people label and who stands out: what the label stage finds, brought to the page of labeling.

The one place where findings on people come to that page. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flywheel.annotate.evidence import read_compared, weigh_evidence, where_biased
from flywheel.annotators import biased_people, measure_anchoring
from flywheel.annotators.anchoring import Anchoring
from flywheel.loop import Loop


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Findings on people; what was not looked for is empty."""

    overall: Anchoring | None = None
    """how much more often people give the model's answer when they see it"""
    people: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same of each person"""
    slices: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same on each slice"""
    anchored: Mapping[str, Anchoring] = field(default_factory=dict)
    """of people who surely take over more than [quality] max_anchoring"""
    blinded: frozenset[str] = frozenset()
    """slices in which nobody is shown the model's answer any longer, or EVERYWHERE"""
    guessing: frozenset[str] = frozenset()
    """people whose answers are hardly better than chance, see `Reliability.is_guessing`"""
    colluding: tuple[tuple[str, ...], ...] = ()
    """people who give one another's answers, right or wrong; they count as one"""


def read_quality(loop: Loop) -> Quality:
    """What the newest annotations say of the people."""
    most = loop.project.quality.max_anchoring
    with loop.ledger.read() as connection:
        compared = read_compared(connection, loop.blobs, loop.task)
        evidence = weigh_evidence(connection, loop.task, loop.project.people)
    measured = measure_anchoring(compared)
    return Quality(
        overall=measured.overall,
        people=measured.people,
        slices=measured.slices,
        anchored=biased_people(compared, most),
        blinded=where_biased(measured, most),
        guessing=frozenset(
            name
            for name, one in evidence.crowd.people.items()
            if one.num_answers and one.is_guessing()
        ),
        colluding=_together(evidence.crowd.voices),
    )


def _together(voices: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """People by the voice that they share."""
    groups: dict[str, list[str]] = {}
    for person, voice in sorted(voices.items()):
        groups.setdefault(voice, []).append(person)
    return tuple(tuple(people) for people in groups.values() if len(people) > 1)
