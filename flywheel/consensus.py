"""What several people agree on, under the task's own rule for when two answers are the same.

Shared by those who make labels and those who measure people, so that both mean the same by a
consensus. Refuses to know who answered, when, and what an answer means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_Given = TypeVar("_Given")


def largest_groups(
    answers: Sequence[_Given], agree: Callable[[_Given, _Given], bool]
) -> list[list[_Given]]:
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
