import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.ledger.samples import group_of, split_of
from flywheel.records import Split

KNOWN = ["test", "test", "test", "train", "test", "test", "train", "train"]


@pytest.mark.parametrize(
    ("metadata", "key", "group"),
    [
        ({"scan": "a"}, "scan", "a"),
        ({"scan": 7}, "scan", "7"),
        ({"scan": False}, "scan", "false"),
        ({"scan": [1, 2]}, "scan", "[1,2]"),
        ({"scan": None}, "scan", "the-id"),
        ({"other": 7}, "scan", "the-id"),
        ({"scan": 7}, None, "the-id"),
    ],
)
def test_the_group_is_the_metadata_s_value_as_text_else_the_sample_s_id(metadata, key, group):
    assert group_of(metadata, "the-id", key) == group


def test_a_long_group_fits_the_ledger_and_stays_apart_from_others():
    long = {end: group_of({"scan": "x" * 500 + end}, "the-id", "scan") for end in "ab"}
    assert long["a"] != long["b"]
    assert all(len(group) <= 200 for group in long.values())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_the_share_of_test_groups_is_the_one_asked_for(share):
    found = sum(split_of("p", str(n), share) is Split.TEST for n in range(10_000)) / 10_000
    assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 10_000) ** 0.5)


def test_the_split_never_changes_from_one_version_to_the_next():
    splits = [split_of("digits", str(n), 0.3).value for n in range(8)]
    assert splits == KNOWN


@given(st.lists(st.text(max_size=9), unique=True, max_size=20), st.randoms())
def test_the_split_does_not_depend_on_the_order_in_which_groups_come(groups, random):
    first = {group: split_of("p", group, 0.5) for group in groups}
    random.shuffle(groups)
    assert {group: split_of("p", group, 0.5) for group in groups} == first


@given(st.text(max_size=9), st.floats(0.01, 0.98))
def test_a_larger_test_share_keeps_every_test_group(group, share):
    if split_of("p", group, share) is Split.TEST:
        assert split_of("p", group, share + 0.01) is Split.TEST


def test_two_projects_split_in_their_own_way():
    assert [split_of("a", str(n), 0.5) for n in range(64)] != [
        split_of("b", str(n), 0.5) for n in range(64)
    ]
