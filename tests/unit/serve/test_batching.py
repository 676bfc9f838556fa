"""Requests that come while the model works form the next batch."""

import asyncio
import threading

from flywheel.errors import PayloadError, UnavailableError
from flywheel.serve.batching import Batches


def fault(error):
    return UnavailableError(f"made of {error}")


class Slow:
    """Doubles; its first call waits until it may go on, so that the others pile up."""

    def __init__(self):
        self.batches, self.inside, self.go_on = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        self.inside.set()
        assert self.go_on.wait(30)
        if "bad" in items:
            raise ValueError("a bad item")
        return [PayloadError("no number") if item is None else item * 2 for item in items]


def pile_up(slow, items, *, finish=lambda found: found, most=9):
    """Ask about the first item, then about the others while it is worked at; results or errors."""

    async def ask():
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(batches.ask(items[0]))
        await loop.run_in_executor(None, slow.inside.wait, 30)
        others = [asyncio.create_task(batches.ask(item)) for item in items[1:]]
        await asyncio.sleep(0.05)
        slow.go_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    batches = Batches(slow, finish, fault=fault, most=most)
    try:
        return asyncio.run(ask())
    finally:
        batches.close()


def test_those_who_come_meanwhile_share_the_next_call():
    slow = Slow()
    assert pile_up(slow, [1, 2, 3, 4]) == [2, 4, 6, 8]
    assert slow.batches == [[1], [2, 3, 4]]


def test_no_batch_is_larger_than_allowed():
    slow = Slow()
    assert pile_up(slow, [1, 2, 3, 4, 5, 6], most=2) == [2, 4, 6, 8, 10, 12]
    assert slow.batches == [[1], [2, 3], [4, 5], [6]]


def test_an_error_reaches_exactly_the_callers_of_its_batch():
    found = pile_up(Slow(), [1, "bad", "worse", 4], most=2)
    assert [type(one) for one in found] == [int, UnavailableError, UnavailableError, int]
    assert str(found[1]) == "made of a bad item"
    assert found[1] is not found[2]


def test_an_error_of_one_item_is_no_one_else_s():
    found = pile_up(Slow(), [1, None, 3])
    assert (found[0], found[2]) == (2, 6)
    assert str(found[1]) == "no number"


def test_what_finishing_raises_is_raised_by_all_whom_it_was_for():
    def full(_found):
        raise OSError("no space")

    assert [str(one) for one in pile_up(Slow(), [1, 2], finish=full)] == ["made of no space"] * 2


def test_results_that_do_not_match_are_an_error_and_no_caller_waits_for_ever():
    found = pile_up(Slow(), [1], finish=lambda _found: [])
    assert str(found[0]) == "made of 0 results for a batch of 1"


def test_the_next_batch_is_worked_at_while_one_is_finished():
    both = threading.Barrier(2, timeout=30)

    def work(items):
        if items == [2]:
            both.wait()
        return items

    def finish(found):
        if found[0] == 1:
            both.wait()
        return found

    async def ask():
        return await asyncio.gather(batches.ask(1), batches.ask(2))

    batches = Batches(work, finish, fault=fault, most=1)
    assert asyncio.run(ask()) == [1, 2]
    batches.close()


def test_those_who_wait_alone_change_no_thread():
    threads = []
    batches = Batches(
        lambda items: threads.append(threading.get_ident()) or items,
        lambda found: threads.append(threading.get_ident()) or found,
        fault=fault,
        most=9,
    )
    for number in range(5):
        assert asyncio.run(batches.ask(number)) == number
    batches.close()
    assert len(set(threads)) == 1


def test_many_callers_all_get_their_own_result():
    async def ask():
        return await asyncio.gather(*(batches.ask(number) for number in range(2000)))

    batches = Batches(
        lambda items: [item * 2 for item in items], lambda found: found, fault=fault, most=5
    )
    assert asyncio.run(ask()) == [2 * number for number in range(2000)]
    batches.close()


def test_what_waits_is_answered_before_the_threads_end():
    slow = Slow()
    slow.go_on.set()
    batches = Batches(slow, lambda found: found, fault=fault, most=1)

    async def ask():
        tasks = [asyncio.create_task(batches.ask(number)) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, batches.close)
        return await asyncio.gather(*tasks)

    assert asyncio.run(ask()) == [2 * number for number in range(20)]
