import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotators import Opinion, group_answers
from flywheel.annotators.opinions import largest_groups, pack


def near(one, other):
    return abs(one - other) <= 1


def same(one, other):
    return one == other


@pytest.mark.parametrize(
    ("answers", "agree", "expected"),
    [
        ("", same, ()),
        ("a", same, (0,)),
        ("abc", same, (0, 1, 2)),
        ("abb", same, (1, 0, 0)),
        ([0, 1, 2, 9], near, (0, 0, 0, 1)),
        ([9, 2, 1, 0], near, (1, 0, 0, 0)),
        ([0, 1, 2, 3], near, (0, 0, 0, 1)),  # the end is near the rest of the group only
    ],
)
def test_answers_that_agree_are_a_group_and_the_largest_is_the_first(answers, agree, expected):
    assert group_answers(answers, agree) == expected


@given(st.lists(st.integers(0, 8), max_size=7))
def test_the_first_group_is_the_one_that_makes_a_consensus(answers):
    numbers = group_answers(answers, near)
    first = [answer for answer, number in zip(answers, numbers, strict=True) if number == 0]
    assert first == (largest_groups(answers, near) or [[]])[0]


@given(st.lists(st.integers(0, 8), max_size=7))
def test_groups_are_numbered_without_a_gap_and_none_is_larger_than_one_before(answers):
    numbers = group_answers(answers, near)
    sizes = [numbers.count(number) for number in range(max(numbers, default=-1) + 1)]
    assert sum(sizes) == len(answers)
    assert 0 not in sizes
    assert sizes == sorted(sizes, reverse=True)


@given(st.lists(st.sampled_from("abc"), max_size=6))
def test_equal_answers_have_the_same_number_and_others_another(answers):
    numbered = list(zip(answers, group_answers(answers, same), strict=True))
    for one, other in itertools.combinations(numbered, 2):
        assert (one[0] == other[0]) == (one[1] == other[1])


def test_each_pair_is_compared_once_at_most():
    asked = []
    group_answers("abcdef", lambda *pair: bool(asked.append(pair)))
    assert len(asked) == len(set(asked)) == 15


def test_a_person_has_one_opinion_on_a_sample():
    twice = [Opinion(sample="s", person="ann", group=group) for group in (0, 1)]
    with pytest.raises(ValueError, match=r"'ann' has two opinions on sample 's'.*the newest"):
        pack(twice)


def test_nothing_packs_to_nothing():
    packed = pack([])
    assert packed.annotators == packed.samples == ()
    assert len(packed.group) == len(packed.sample_of_group) == 0
