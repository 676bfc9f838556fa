import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.dataset import CopiesError, Copy
from flywheel.dataset.leakage import check_share, keep_splits_apart
from flywheel.records import DatasetRow, Split

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


def keep(*drafts):
    """Rows s0, s1, ... from (split and origin, group, picture); equal pictures are copies."""
    rows = [row(f"s{index}", *draft[0]) for index, draft in enumerate(drafts)]
    groups = {f"s{index}": draft[1] for index, draft in enumerate(drafts)}
    pictures = {f"s{index}": draft[2] for index, draft in enumerate(drafts)}
    copies = [
        Copy(test_id=test.sample_id, train_id=train.sample_id, similarity=0.95)
        for test in rows
        for train in rows
        if (test.split, train.split) == (Split.TEST, Split.TRAIN)
        and pictures[test.sample_id] == pictures[train.sample_id]
    ]
    return keep_splits_apart(rows, groups, copies)


@given(DRAFTS)
def test_no_group_and_no_copy_is_on_both_sides(drafts):
    kept, dropped = keep(*drafts)
    sides = {split: [r for r in kept if r.split is split] for split in Split}
    for place in (1, 2):  # group, picture
        train, test = ({drafts[int(r.sample_id[1:])][place] for r in sides[s]} for s in Split)
        assert not train & test
    assert len(kept) + len(dropped) == len(drafts)
    assert not {r.sample_id for r in kept} & {d.sample_id for d in dropped}


@given(DRAFTS)
def test_start_data_that_trains_is_never_dropped(drafts):
    kept, _ = keep(*drafts)
    started = [f"s{index}" for index, draft in enumerate(drafts) if draft[0] == KINDS[0]]
    assert set(started) <= {r.sample_id for r in kept}


@given(DRAFTS)
def test_a_row_goes_only_for_a_reason_on_the_other_side(drafts):
    _, dropped = keep(*drafts)
    for one in dropped:
        (split, _), group, picture = drafts[int(one.sample_id[1:])]
        others = [draft for draft in drafts if draft[0][0] is not split]
        assert one.split is split
        assert any(group == draft[1] or picture == draft[2] for draft in others)
        assert (one.copy is not None) == ("near-duplicate" in one.reason)


def test_a_targeted_sample_goes_when_its_group_tests():
    kept, dropped = keep((KINDS[1], "A", 0), (KINDS[3], "A", 1))
    assert [r.sample_id for r in kept] == ["s1"]
    assert dropped[0].reason == "group A is in the test set"


def test_a_copy_of_a_test_sample_does_not_train():
    kept, dropped = keep((KINDS[1], "A", 0), (KINDS[3], "B", 0))
    assert [r.sample_id for r in kept] == ["s1"]
    assert dropped[0].reason == "near-duplicate of test sample s1"


def test_a_copy_of_start_data_does_not_test_since_the_champion_has_learned_it():
    """The start row went, which left it in every champion that had trained on it."""
    kept, dropped = keep((KINDS[0], "A", 0), (KINDS[3], "B", 0))
    assert [r.sample_id for r in kept] == ["s0"]
    assert dropped[0].reason == "near-duplicate of start data s0"


def check(num_copies, number, most_copies=0.1):
    drafts = [(KINDS[1], f"A{i}", i) for i in range(number)]
    drafts += [(KINDS[3], f"B{i}", i) for i in range(num_copies)]
    rows = [row(f"s{index}", *draft[0]) for index, draft in enumerate(drafts)]
    groups = {f"s{index}": draft[1] for index, draft in enumerate(drafts)}
    check_share(rows, groups, keep(*drafts)[1], most_copies)


def test_a_night_that_drops_a_large_share_stops_with_the_pair_shown():
    """54 test rows of a table with one column near 1,000 became 3 without a word."""
    check(10, 100)
    with pytest.raises(CopiesError, match="11 of 100 train rows look like copies") as caught:
        check(11, 100)
    said, pair = str(caught.value), caught.value.pair
    assert (int(pair.test_id[1:]), pair.similarity) == (100 + int(pair.train_id[1:]), 0.95)
    for part in (pair.test_id, pair.train_id, "group A", "group B", "0.95", "near_duplicate"):
        assert part in said
    check(11, 100, most_copies=0.11)


def test_five_copies_stop_no_night_however_few_rows_there_are():
    check(5, 6)
    with pytest.raises(CopiesError):
        check(6, 6)


def test_a_group_that_changed_sides_does_not_test_on_what_a_model_was_trained_on():
    """Its samples are of both splits where [dataset] holdout was another before."""
    rows = [
        row("old", Split.TEST, "probability"),
        row("new", Split.TRAIN, "targeted"),
        row("start", Split.TEST, "start"),
    ]
    groups = {"old": "camera", "new": "other", "start": "start"}
    kept, (dropped,) = keep_splits_apart(rows, groups, [], {"camera", "start"})
    assert [one.sample_id for one in kept] == ["new", "start"]
    assert dropped.reason == "a model was trained on group camera"
