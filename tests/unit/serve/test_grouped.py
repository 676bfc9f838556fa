import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.errors import FlywheelError, UnavailableError
from flywheel.serve.grouped import Grouped


def fault(error):
    return UnavailableError(f"made of {error}")


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


def pile_up(grouped, slow, items):
    """Call with the first item, then with the others in order while the first is inside."""
    with ThreadPoolExecutor(len(items)) as pool:
        first = pool.submit(grouped, items[0])
        slow.inside.wait(30)
        others = []
        for number, item in enumerate(items[1:], 1):
            others.append(pool.submit(grouped, item))
            while len(grouped._waiting) < number:
                threading.Event().wait(0.001)
        slow.go_on.set()
    return [first, *others]


def test_a_lone_caller_goes_in_at_once_and_alone():
    grouped = Grouped(lambda items: [item * 2 for item in items], fault=fault, most=9)
    assert [grouped(n) for n in range(3)] == [0, 2, 4]


def test_those_who_come_meanwhile_share_the_next_call():
    slow = Slow()
    calls = pile_up(Grouped(slow, fault=fault, most=9), slow, [1, 2, 3, 4])
    assert slow.groups == [[1], [2, 3, 4]]
    assert [call.result() for call in calls] == [2, 4, 6, 8]


def test_no_group_is_larger_than_allowed():
    slow = Slow()
    pile_up(Grouped(slow, fault=fault, most=2), slow, [1, 2, 3, 4, 5, 6])
    assert slow.groups == [[1], [2, 3], [4, 5], [6]]


def test_items_that_are_not_alike_never_share_a_call():
    slow = Slow()
    grouped = Grouped(slow, fault=fault, most=9, alike=type)
    pile_up(grouped, slow, [1, 2, "a", "b", 3])
    assert slow.groups == [[1], [2], ["a", "b"], [3]]


def test_an_error_reaches_exactly_the_callers_of_its_group():
    slow = Slow()
    calls = pile_up(Grouped(slow, fault=fault, most=2), slow, [1, "bad", "worse", 4])
    assert [type(call.exception()) for call in calls] == [
        type(None), UnavailableError, UnavailableError, type(None),
    ]  # fmt: skip
    assert str(calls[1].exception()) == "made of a bad item"


def test_finish_sees_a_group_before_its_callers_and_its_error_is_theirs():
    def finish(results):
        raise OSError(f"no space for {results}")

    grouped = Grouped(lambda items: items, fault=fault, most=9, finish=finish)
    with pytest.raises(FlywheelError, match=r"no space for \[7\]"):
        grouped(7)


def test_results_that_do_not_match_the_items_are_an_error_and_no_one_waits_for_ever():
    grouped = Grouped(lambda items: [], fault=fault, most=9)
    with pytest.raises(UnavailableError):
        grouped(1)


def test_many_threads_all_get_their_own_result():
    grouped = Grouped(lambda items: [item * 2 for item in items], fault=fault, most=5)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(grouped, range(2000))) == [2 * n for n in range(2000)]
