"""The rule by which people agree, on plain answers and on answers that are only near each other."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotators.opinions import largest_groups
from flywheel.records import canonical, same_json


def near(one, other):
    return abs(one - other) <= 1


def first(answers):
    return answers[0]


def mean(answers):
    return sum(answers) / len(answers)


def consensus(answers, agreement, agree, merge):
    """The largest group merged, with its share; None for a tie and for too few."""
    groups = largest_groups(answers, agree)
    if len(groups) != 1 or len(groups[0]) < agreement:
        return None
    return merge(groups[0]), len(groups[0]) / len(answers)


def counted(answers, agreement):
    """The definition for plain equality: the most common answer, unless two are."""
    counts = Counter(canonical(answer) for answer in answers).most_common(2)
    if not counts or counts[0][1] < agreement:
        return None
    if len(counts) > 1 and counts[1][1] == counts[0][1]:
        return None
    return json.loads(counts[0][0]), counts[0][1] / len(answers)


@pytest.mark.parametrize(
    ("answers", "agreement", "expected"),
    [
        ([], 1, None),
        (["a"], 1, ("a", 1.0)),
        (["a"], 2, None),
        (["a", "b"], 1, None),
        (["a", "b", "a"], 2, ("a", 2 / 3)),
        (["a", "b", "a", "b"], 2, None),
        ([{"x": 1, "y": 2}, {"y": 2, "x": 1}], 2, ({"x": 1, "y": 2}, 1.0)),
        ([1, 1.0], 2, None),
    ],
)
def test_an_answer_needs_enough_people_and_more_than_any_other(answers, agreement, expected):
    assert consensus(answers, agreement, same_json, first) == expected


@given(st.lists(st.sampled_from(["a", "b", 1, 1.0, {"x": [1]}]), max_size=8), st.integers(1, 3))
def test_for_equal_answers_it_is_the_most_common_one(answers, agreement):
    assert consensus(answers, agreement, same_json, first) == counted(answers, agreement)


@given(st.lists(st.sampled_from("abc"), max_size=6))
def test_equal_answers_are_tied_exactly_when_they_are_equally_common(answers):
    counts = Counter(answers)
    tied = [one for one, count in counts.items() if count == max(counts.values())]
    assert [group[0] for group in largest_groups(answers, same_json)] == tied


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([5, 0, 6], (5.5, 2 / 3)),
        ([6, 0, 5], (5.5, 2 / 3)),
        ([0, 1, 2], (1, 1.0)),  # the middle one is the medoid, though the ends are not near
        ([2, 1, 1, 0, 9], (1, 4 / 5)),
        ([0, 1, 5, 6], None),  # two against two
        ([0, 1, 2, 3], (1, 3 / 4)),  # two medoids that agree are no tie; the older one stands
        ([0, 4], None),
    ],
)
def test_answers_near_one_of_them_are_a_group_and_are_merged(answers, expected):
    assert consensus(answers, 2, near, mean) == expected


@given(st.lists(st.integers(0, 6), max_size=5), st.integers(1, 3))
def test_whether_there_is_a_consensus_does_not_depend_on_who_came_first(answers, agreement):
    orders = itertools.permutations(answers)
    found = {consensus(order, agreement, near, mean) is None for order in orders}
    assert len(found) == 1


def test_a_group_is_merged_oldest_first():
    assert consensus([2, 9, 1, 3], 2, near, list) == ([2, 1, 3], 3 / 4)


def test_two_answers_are_compared_once():
    asked = []
    largest_groups(list("abcd"), lambda *pair: bool(asked.append(pair)))
    assert len(asked) == 6
