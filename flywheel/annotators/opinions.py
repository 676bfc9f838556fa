"""Annotators' answers as groups that agree, and the consensus that a plain count of them gives.

The task's own rule says which answers agree, so classes, keypoints, poses and boxes all look alike
from here on. Labels and the measurement of annotators share it, so that both mean the same by a
consensus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from flywheel.records import Array

_Answered = TypeVar("_Answered")


def largest_groups(
    answers: Sequence[_Answered], agree: Callable[[_Answered, _Answered], bool]
) -> list[list[_Answered]]:
    """The largest groups of answers, in their order; several are a tie, none is no answers.

    A group is all answers that agree with one of them, its medoid: nearness is not transitive, so
    there are no classes to count. Of groups as large whose medoids agree, directly or through
    others, the first stands for all. For plain equality these are the most common answers.
    """
    places = range(len(answers))
    agreeing = [{place} for place in places]
    for one in places:
        for other in places[one + 1 :]:
            if agree(answers[one], answers[other]):
                agreeing[one].add(other)
                agreeing[other].add(one)
    most = max(map(len, agreeing), default=0)
    medoids = {place for place in places if len(agreeing[place]) == most}
    found = []
    while medoids:
        first = min(medoids)
        found.append([answers[place] for place in sorted(agreeing[first])])
        waiting = {first}
        while waiting:
            reached = waiting.pop()
            medoids.discard(reached)
            waiting |= agreeing[reached] & medoids
    return found


_Given = TypeVar("_Given")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """One person's answer on one sample; the newest, when there were several."""

    sample: str
    person: str
    group: int
    """of answers on this sample that agree, from 0: see `group_answers`"""
    is_right: bool | None = None
    """on a gold sample, whether it agrees with the known answer; None: not known"""
    name: str | None = None
    """canonical text, where answers are names that mean the same on every sample (classes); None
    where they are only near each other"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinions:
    """Opinions as arrays; A opinions, S samples, P annotators, G groups of all samples together."""

    samples: tuple[str, ...]
    annotators: tuple[str, ...]
    sample: Array = field(repr=False)
    """(A,) int, index into samples"""
    person: Array = field(repr=False)
    """(A,) int, index into annotators"""
    group: Array = field(repr=False)
    """(A,) int in 0..G-1; those of one sample follow each other, in the order of its numbers"""
    is_right: Array = field(repr=False)
    """(A,) float: 1 right, 0 wrong, NaN not known"""
    name: Array = field(repr=False)
    """(A,) int in 0..K-1, of the name that was answered; -1 where the answer is no name"""
    sample_of_group: Array = field(repr=False)
    """(G,) int, not falling"""
    number_of_group: Array = field(repr=False)
    """(G,) int, the group's number on its sample"""


def group_answers(
    answers: Sequence[_Given], agree: Callable[[_Given, _Given], bool]
) -> tuple[int, ...]:
    """The number of each answer's group, from 0, the largest first.

    Group 0 is the first of `flywheel.annotators.opinions.largest_groups`, the next is that of the answers
    that are left, and so on. So each answer is in one group, though nearness is not transitive;
    where tied groups share answers the first has them.

    Args:
        answers: of one sample, one a person, oldest first.
        agree: whether two answers are the same as far as annotators can see; symmetric.
    """
    known: dict[tuple[int, int], bool] = {}

    def agree_at(one: int, other: int) -> bool:
        if (one, other) not in known:  # each pair is asked once, however many groups there are
            known[one, other] = agree(answers[one], answers[other])
        return known[one, other]

    numbers = [0] * len(answers)
    left, number = list(range(len(answers))), 0
    while left:
        members = set(largest_groups(left, agree_at)[0])
        for place in members:
            numbers[place] = number
        left = [place for place in left if place not in members]
        number += 1
    return tuple(numbers)


def pack(opinions: Sequence[Opinion], annotators: Sequence[str] = ()) -> Opinions:
    """Opinions as arrays, sorted by sample, group and person.

    Args:
        opinions: in any order.
        annotators: are in the result even if they answered nothing.

    Raises:
        ValueError: a person has two opinions on one sample.
    """
    ordered = sorted(opinions, key=lambda one: (one.sample, one.group, one.person))
    _refuse_twice(ordered)
    samples = sorted({opinion.sample for opinion in ordered})
    everyone = sorted({opinion.person for opinion in ordered} | set(annotators))
    place, number = _places(samples), _places(everyone)
    names = _places(sorted({opinion.name for opinion in ordered if opinion.name is not None}))
    groups = sorted({(place[opinion.sample], opinion.group) for opinion in ordered})
    index = {group: at for at, group in enumerate(groups)}
    known = [
        float("nan") if opinion.is_right is None else float(opinion.is_right) for opinion in ordered
    ]
    pairs = np.array(groups, dtype=np.intp).reshape(-1, 2)
    return Opinions(
        samples=tuple(samples),
        annotators=tuple(everyone),
        sample=np.array([place[opinion.sample] for opinion in ordered], dtype=np.intp),
        person=np.array([number[opinion.person] for opinion in ordered], dtype=np.intp),
        group=np.array(
            [index[place[opinion.sample], opinion.group] for opinion in ordered], dtype=np.intp
        ),
        is_right=np.array(known, dtype=float),
        name=np.array(
            [-1 if opinion.name is None else names[opinion.name] for opinion in ordered],
            dtype=np.intp,
        ),
        sample_of_group=pairs[:, 0],
        number_of_group=pairs[:, 1],
    )


def _places(names: Sequence[str]) -> Mapping[str, int]:
    return {name: at for at, name in enumerate(names)}


def _refuse_twice(opinions: Sequence[Opinion]) -> None:
    seen: set[tuple[str, str]] = set()
    for opinion in opinions:
        if (opinion.sample, opinion.person) in seen:
            raise ValueError(
                f"{opinion.person!r} has two opinions on sample {opinion.sample[:12]!r}; "
                "one a person is allowed: hand in the newest"
            )
        seen.add((opinion.sample, opinion.person))
