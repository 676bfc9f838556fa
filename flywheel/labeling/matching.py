"""Lists of marked things as annotators give them: which are the same, and what they agree on.

Two annotators seldom draw the same boxes in a crowded picture: one misses a tenth, another adds
one. So two lists agree when most of their elements can be matched, and what stands for the lists
of all is decided element by element: what half of them or more have, in its mean place.
`flywheel/labeling/README.md` has the measurement of these rules.

Shapes: N and M elements of two lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from flywheel.errors import TaskError
from flywheel.records import Array, Json, same_json

Element = Mapping[str, Any]
"""a box, keypoint, polygon or span: its label, and where it is"""

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """How lists of one kind of element are compared and merged."""

    is_element: Callable[[Json], bool]
    """whether a value has what an element of this kind must have"""
    likeness: Callable[[Sequence[Element], Sequence[Element]], Array]
    """(N, M) of 0..1, how near two elements are, whatever their labels"""
    mean: Callable[[Sequence[Element]], Element]
    """elements that are the same, of one or more annotators -> the one that stands for them"""
    least: float
    """likeness from which two elements are the same, in (0, 1]"""
    share: float
    """of the elements of two lists that are the same in both, from which the lists agree; (0, 1]"""

    def __post_init__(self) -> None:
        for name, value in (("likeness", self.least), ("share", self.share)):
            if not 0.0 < value <= 1.0:
                raise TaskError(
                    f"the least {name} of elements that agree is {value!r}. Give a number above 0, at "
                    "most 1"
                )

    def elements(self, answer: Json) -> list[Element] | None:
        """The elements of an answer; None for a value that is no such answer."""
        is_list = isinstance(answer, list) and all(map(self.is_element, answer))
        return answer if is_list else None

    def match(self, ones: Sequence[Element], others: Sequence[Element]) -> dict[int, int]:
        """Place in `others` -> place in `ones` of the same element with the same label, one to one.

        As many as possible are matched, and of the ways to do so that with the greatest sum of
        likeness.
        """
        if not ones or not others:
            return {}
        names, other_names = ([one["label"] for one in some] for some in (ones, others))
        likeness = self.likeness(ones, others)
        same = np.array([[one == other for other in other_names] for one in names])
        near = same & (likeness >= self.least - _ROUNDING)
        # Each pair is worth more than all differences of likeness together.
        worth = np.where(near, 1.0 + likeness / (1 + min(near.shape)), 0.0)
        rows, columns = scipy.optimize.linear_sum_assignment(worth, maximize=True)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return {column: row for row, column in pairs if near[row, column]}

    def agree(self, one: Json, other: Json) -> bool:
        """Whether the matched elements are a large enough share of both lists: 2 pairs / (N + M).

        Two empty lists agree. A value that is no such list agrees only with the same JSON.
        """
        ones, others = self.elements(one), self.elements(other)
        if ones is None or others is None:
            return same_json(one, other)
        if ones == others:
            return True  # also boxes so small that they have no area
        needed = self.share * (len(ones) + len(others)) - _ROUNDING
        return 2 * min(len(ones), len(others)) >= needed and (
            2 * len(self.match(ones, others)) >= needed
        )

    def merge(self, answers: Sequence[Json]) -> Json:
        """The elements that half of the answers or more have, in the order of the first answer.

        Answers that are all the same stay as they are.
        """
        first = answers[0]
        if all(same_json(first, other) for other in answers[1:]):
            return first
        groups = self.groups(answers)
        return [dict(self.mean(group)) for group in groups if 2 * len(group) >= len(answers)]

    def groups(self, answers: Sequence[Json]) -> list[list[Element]]:
        """The elements of all answers, those that are the same together.

        Each answer's elements are matched with the means of what was matched before; those that
        match nothing begin a group of their own.
        """
        found: list[list[Element]] = []
        for answer in answers:
            elements = self.elements(answer) or []
            pairs = self.match([self.mean(group) for group in found], elements)
            for place, element in enumerate(elements):
                if place in pairs:
                    found[pairs[place]].append(element)
                else:
                    found.append([element])
        return found


def mean_of(values: Sequence[float]) -> float:
    """The mean, which of equal numbers is exactly that number."""
    return values[0] + sum(value - values[0] for value in values) / len(values)
