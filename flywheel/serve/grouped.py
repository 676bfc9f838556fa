"""Callers of one function share its calls: how predictions and commits come in groups.

There is no thread and no waiting time here. Who finds nobody inside goes in at once; those
who come meanwhile form the next group, and its first member runs it for all. A lone caller
so pays for no change of threads. What the function does is not known here.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from flywheel.errors import FlywheelError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOGGER = logging.getLogger(__name__)


def _nothing(_results: Sequence[object]) -> None:
    pass


def _all_alike(_item: object) -> Hashable:
    return None


class _Call(Generic[Item, Result]):
    """One caller's item, and later its result or the error of its group."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.woken = threading.Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return bool(self.results) or self.error is not None


class Grouped(Generic[Item, Result]):
    """A function of many items that its callers call with one.

    `work` never runs twice at the same time. `finish` gets the results of a group before its
    callers do, while the next group may already be at work. An error of either reaches exactly
    the callers of its group, as what `fault` makes of it.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        *,
        fault: Callable[[BaseException], FlywheelError],
        most: int,
        finish: Callable[[list[Result]], None] = _nothing,
        alike: Callable[[Item], Hashable] = _all_alike,
    ) -> None:
        self._work, self._finish, self._fault = work, finish, fault
        self._most = most
        self._alike = alike
        self._lock = threading.Lock()
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._busy = False

    def __call__(self, item: Item) -> Result:
        """The result for one item."""
        call = _Call[Item, Result](item)
        with self._lock:
            self._waiting.append(call)
            waits, self._busy = self._busy, True
        if waits:
            call.woken.wait()
        if not call.done:
            self._lead()
        if call.error is not None:
            raise self._fault(call.error) from call.error
        return call.results[0]

    def _lead(self) -> None:
        """Run the group at the head of the queue, which holds the caller itself."""
        group = self._take()
        try:
            try:
                results = self._work([call.item for call in group])
            finally:
                self._pass_on()
            self._finish(results)
            for call, result in zip(group, results, strict=True):
                call.results.append(result)
        except BaseException as error:  # whatever it is, nobody may be left waiting
            if not isinstance(error, FlywheelError):
                _LOGGER.exception("failed for %d callers", len(group))
            for call in group:
                call.error = error
        finally:
            for call in group:
                call.woken.set()

    def _take(self) -> list[_Call[Item, Result]]:
        with self._lock:
            group = [self._waiting.popleft()]
            kind = self._alike(group[0].item)
            while (
                self._waiting
                and len(group) < self._most
                and self._alike(self._waiting[0].item) == kind
            ):
                group.append(self._waiting.popleft())
            return group

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.set()
            else:
                self._busy = False
