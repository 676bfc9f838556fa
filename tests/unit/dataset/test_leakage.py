import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.dataset import keep_splits_apart
from flywheel.records import DatasetRow, Split

PICTURES = np.random.default_rng(0).random((6, 40)).astype(np.float32)

KINDS = [
    (Split.TRAIN, "start"),
    (Split.TRAIN, "targeted"),
    (Split.TEST, "start"),
    (Split.TEST, "probability"),
]
DRAFTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from("ABCDE"), st.integers(0, 5)), max_size=25
)


def row(name, split, origin):
    return DatasetRow(sample_id=name, split=split, origin=origin, answer=0, weight=1.0)


def keep(*drafts, near_duplicate=0.999):
    """Rows s0, s1, ... from (split and origin, group, vector)."""
    rows = [row(f"s{index}", *draft[0]) for index, draft in enumerate(drafts)]
    groups = {f"s{index}": draft[1] for index, draft in enumerate(drafts)}
    vectors = {f"s{index}": np.asarray(draft[2]) for index, draft in enumerate(drafts)}
    return keep_splits_apart(rows, groups, vectors, near_duplicate)


@given(DRAFTS)
def test_no_group_and_no_copy_is_on_both_sides(drafts):
    kept, dropped = keep(*[(kind, group, PICTURES[index]) for kind, group, index in drafts])
    sides = {split: [r for r in kept if r.split is split] for split in Split}
    for place in (1, 2):  # group, picture
        train, test = ({drafts[int(r.sample_id[1:])][place] for r in sides[s]} for s in Split)
        assert not train & test
    assert len(kept) + len(dropped) == len(drafts)
    assert not {r.sample_id for r in kept} & {d.sample_id for d in dropped}


@given(DRAFTS)
def test_start_data_that_trains_is_never_dropped(drafts):
    kept, _ = keep(*[(kind, group, PICTURES[index]) for kind, group, index in drafts])
    started = [f"s{index}" for index, draft in enumerate(drafts) if draft[0] == KINDS[0]]
    assert set(started) <= {r.sample_id for r in kept}


@given(DRAFTS)
def test_a_row_goes_only_for_a_reason_on_the_other_side(drafts):
    _, dropped = keep(*[(kind, group, PICTURES[index]) for kind, group, index in drafts])
    for one in dropped:
        (split, _), group, picture = drafts[int(one.sample_id[1:])]
        others = [draft for draft in drafts if draft[0][0] is not split]
        assert any(group == draft[1] or picture == draft[2] for draft in others)
        assert one.reason


def test_a_targeted_sample_goes_when_its_group_tests():
    kept, dropped = keep((KINDS[1], "A", PICTURES[0]), (KINDS[3], "A", PICTURES[1]))
    assert [r.sample_id for r in kept] == ["s1"]
    assert dropped[0].reason == "group A is in the test set"


def test_a_copy_of_a_test_sample_does_not_train():
    copy = PICTURES[0] + np.float32(1e-4) * PICTURES[1]
    kept, dropped = keep((KINDS[1], "A", copy), (KINDS[3], "B", PICTURES[0]))
    assert [r.sample_id for r in kept] == ["s1"]
    assert dropped[0].reason == "near-duplicate of test sample s1"


def test_a_copy_of_start_data_does_not_test_since_the_champion_has_learned_it():
    """The start row went, which left it in every champion that had trained on it."""
    kept, dropped = keep((KINDS[0], "A", PICTURES[0]), (KINDS[3], "B", PICTURES[0]))
    assert [r.sample_id for r in kept] == ["s0"]
    assert dropped[0].reason == "near-duplicate of start data s0"


def test_a_brighter_copy_is_a_copy_and_another_picture_is_none():
    brighter = (KINDS[1], "A", 1.2 * PICTURES[0] + 0.1)
    assert len(keep(brighter, (KINDS[3], "B", PICTURES[0]))[0]) == 1
    assert len(keep(brighter, (KINDS[3], "B", PICTURES[1]))[0]) == 2


def test_two_blank_pictures_are_copies():
    blank = np.full(40, 0.1, dtype=np.float32)
    assert len(keep((KINDS[1], "A", blank), (KINDS[3], "B", 2 * blank))[0]) == 1
    assert len(keep((KINDS[1], "A", blank), (KINDS[3], "B", PICTURES[0]))[0]) == 2


@pytest.mark.parametrize("near_duplicate", [0.9, 1.0])
def test_short_vectors_are_copies_only_when_equal(near_duplicate):
    """Two numbers always correlate, so half of a task on points was thrown away."""
    point, other = (KINDS[1], "A", [1.0, 2.0]), (KINDS[3], "B", [5.0, 9.0])
    assert len(keep(point, other, near_duplicate=near_duplicate)[0]) == 2
    same = (KINDS[3], "B", [1.0, 2.0])
    assert len(keep(point, same, near_duplicate=near_duplicate)[0]) == 1


def test_equal_pictures_are_copies_at_a_near_duplicate_of_1():
    """Rounding left their correlation under 1."""
    for picture in PICTURES:
        drafts = (KINDS[1], "A", picture), (KINDS[3], "B", picture.copy())
        assert len(keep(*drafts, near_duplicate=1.0)[0]) == 1


def test_no_rows_and_one_side_alone_are_kept_as_they_are():
    assert keep() == ([], [])
    assert len(keep((KINDS[1], "A", PICTURES[0]), (KINDS[1], "A", PICTURES[0]))[0]) == 2
