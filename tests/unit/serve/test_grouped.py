import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.errors import FlywheelError, UnavailableError
from flywheel.serve.grouped import Groups


def fault(error):
    return UnavailableError(f"made of {error}")


def join(groups, item, work):
    """What each caller does: the leader works for its whole group."""
    turn = groups.join(item)
    if turn.leads:
        with turn:
            turn.results = work(turn.items)
    return turn.result()


def double(items):
    return [item * 2 for item in items]


class Slow:
    """Doubles; its first call waits until it may go on, so that the others pile up."""

    def __init__(self):
        self.groups, self.inside, self.go_on = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.groups.append(list(items))
        self.inside.set()
        assert self.go_on.wait(30)
        if "bad" in items:
            raise ValueError("a bad item")
        return [item * 2 for item in items]


def pile_up(groups, slow, items):
    """Call with the first item, then with the others in order while the first is inside."""
    with ThreadPoolExecutor(len(items)) as pool:
        first = pool.submit(join, groups, items[0], slow)
        slow.inside.wait(30)
        others = []
        for number, item in enumerate(items[1:], 1):
            others.append(pool.submit(join, groups, item, slow))
            while len(groups._waiting) < number:
                threading.Event().wait(0.001)
        slow.go_on.set()
    return [first, *others]


def test_a_lone_caller_goes_in_at_once_and_alone():
    groups = Groups(fault=fault, most=9)
    assert [join(groups, n, double) for n in range(3)] == [0, 2, 4]


def test_those_who_come_meanwhile_share_the_next_call():
    slow = Slow()
    calls = pile_up(Groups(fault=fault, most=9), slow, [1, 2, 3, 4])
    assert slow.groups == [[1], [2, 3, 4]]
    assert [call.result() for call in calls] == [2, 4, 6, 8]


def test_no_group_is_larger_than_allowed():
    slow = Slow()
    pile_up(Groups(fault=fault, most=2), slow, [1, 2, 3, 4, 5, 6])
    assert slow.groups == [[1], [2, 3], [4, 5], [6]]


def test_items_that_are_not_alike_never_share_a_call():
    slow = Slow()
    groups = Groups(fault=fault, most=9, alike=type)
    pile_up(groups, slow, [1, 2, "a", "b", 3])
    assert slow.groups == [[1], [2], ["a", "b"], [3]]


def test_an_error_reaches_exactly_the_callers_of_its_group():
    slow = Slow()
    calls = pile_up(Groups(fault=fault, most=2), slow, [1, "bad", "worse", 4])
    assert [type(call.exception()) for call in calls] == [
        type(None), UnavailableError, UnavailableError, type(None),
    ]  # fmt: skip
    assert str(calls[1].exception()) == "made of a bad item"


def test_a_group_that_has_passed_on_is_still_at_work_while_the_next_one_begins():
    groups = Groups(fault=fault, most=9)
    with groups.join(1) as first:
        first.pass_on()
        assert join(groups, 2, double) == 4
        first.results = double(first.items)
    assert first.result() == 2


def test_an_error_after_passing_on_is_that_of_the_group():
    turn = (groups := Groups(fault=fault, most=9)).join(7)
    with turn:
        turn.pass_on()
        raise OSError(f"no space for {turn.items}")
    with pytest.raises(FlywheelError, match=r"no space for \[7\]"):
        turn.result()
    assert join(groups, 1, double) == 2


def test_results_that_do_not_match_the_items_are_an_error_and_no_caller_waits_for_ever():
    with pytest.raises(UnavailableError, match="0 results for a group of 1"):
        join(Groups(fault=fault, most=9), 1, lambda items: [])


def test_many_threads_all_get_their_own_result():
    groups = Groups(fault=fault, most=5)
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda n: join(groups, n, double), range(2000))
        assert list(found) == [2 * n for n in range(2000)]
