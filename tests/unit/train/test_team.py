"""What each of several trainers computes, and what is reported when one of them ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import errors
from flywheel.errors import FlywheelError, TaskError, UserError
from flywheel.train.distributed import JobFolder
from flywheel.train.rows import Team


@given(size=st.integers(1, 64), number=st.integers(1, 5000))
def test_the_shares_of_a_team_are_the_whole_batch_once(size, number):
    rows = [
        row
        for rank in range(size)
        for row in range(number)[Team(rank=rank, size=size).share(number)]
    ]
    assert rows == list(range(number))


@given(size=st.integers(1, 64), number=st.integers(1, 5000))
def test_shares_differ_by_one_row_at_most(size, number):
    shares = [len(range(number)[Team(rank=rank, size=size).share(number)]) for rank in range(size)]
    assert max(shares) - min(shares) <= 1


def test_a_batch_that_leaves_a_process_without_rows_is_refused():
    with pytest.raises(UserError, match="processes = 4, but 9 training rows make batches of 3"):
        Team(size=4).check(9, 3)
    Team(size=3).check(9, 3)


@pytest.fixture
def folder(tmp_path):
    for rank in range(2):
        (tmp_path / f"output-{rank}").write_text("first\nlast\n")
    return JobFolder(tmp_path)


def test_the_first_fault_counts_and_keeps_its_kind(folder):
    folder.put_fault(1, TaskError("the task is wrong"))
    folder.put_fault(0, RuntimeError("Connection closed by peer"))
    assert repr(folder.error([1, 1])) == repr(TaskError("the task is wrong"))


def test_a_foreign_exception_is_reported_by_its_last_lines(folder):
    folder.put_fault(1, KeyError("lens"))
    with pytest.raises(FlywheelError, match=r"one of 2 trainers failed; fix .*KeyError: 'lens'"):
        raise folder.error([None, 1])


def test_a_signal_counts_before_the_faults_that_follow_from_it(folder):
    folder.put_fault(0, RuntimeError("Connection closed by peer"))
    with pytest.raises(
        FlywheelError, match=r"trainer 2 of 2 was killed by signal 9.*first \| last"
    ):
        raise folder.error([1, -9])


def test_a_trainer_that_ends_itself_is_reported_by_its_code(folder):
    with pytest.raises(FlywheelError, match="trainer 2 of 2 ended with code 3"):
        raise folder.error([0, 3])
    with pytest.raises(FlywheelError, match="without an error and without a result"):
        folder.result()


def test_a_line_half_written_waits_for_the_next_look(folder):
    folder.add_progress(1, 9, 0.5)
    with (folder.path / "progress").open("a") as lines:
        lines.write("[2, 9, 0.")
    assert folder.progress(0) == [(1, 9, 0.5)]
    assert folder.progress(1) == []


def test_every_kind_of_error_comes_through_as_it_is(folder):
    for name in [name for name in vars(errors) if name.endswith("Error")]:
        folder.put_fault(0, getattr(errors, name)("text"))
        assert type(folder.error([1])) is getattr(errors, name)
