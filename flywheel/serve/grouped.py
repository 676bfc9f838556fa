"""Dynamic batching: concurrent callers share one unit of work, a forward pass or a commit.

There is no worker thread and no batching delay. A caller that finds no other at work becomes a
leader at once; those that arrive meanwhile form the next group, whose first member leads. So a
single caller pays for no thread switch.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from flywheel.errors import FlywheelError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOGGER = logging.getLogger(__name__)


def _all_alike(_item: object) -> Hashable:
    return None


class Groups(Generic[Item, Result]):
    """A queue whose callers are served in groups of at most `most` items of equal kind (`alike`).

    Groups do not run concurrently. An error of a group is raised by each of its members, converted
    by `fault` to an exception of its own.
    """

    def __init__(
        self,
        *,
        fault: Callable[[BaseException], FlywheelError],
        most: int,
        alike: Callable[[Item], Hashable] = _all_alike,
    ) -> None:
        self.fault = fault
        self._most = most
        self._alike = alike
        self._lock = threading.Lock()
        self._waiting: deque[Turn[Item, Result]] = deque()
        self._is_busy = False

    def join(self, item: Item) -> Turn[Item, Result]:
        """Wait until the item's group is served or the caller must lead one; return its turn."""
        turn = Turn(self, item)
        with self._lock:
            self._waiting.append(turn)
            waits, self._is_busy = self._is_busy, True
        if waits:
            turn.woken.wait()
        return turn

    def take(self) -> list[Turn[Item, Result]]:
        """Remove and return the group at the head of the queue; the first member leads."""
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

    def pass_on(self) -> None:
        """Start the next group, led by the head of the queue."""
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.set()
            else:
                self._is_busy = False


class Turn(Generic[Item, Result]):
    """One caller's item, and later its result or the error of its group.

    A caller that `leads` enters the turn, processes `items` for its group, and sets `results`; an
    exception meanwhile is the error of all members, raised by `result`.
    """

    def __init__(self, groups: Groups[Item, Result], item: Item) -> None:
        self.item = item
        self.woken = threading.Event()
        self.results: Sequence[Result] = ()
        """set by the leader: one per item, in order"""
        self._groups = groups
        self._group: list[Turn[Item, Result]] = []
        self._has_passed_on = False
        self._found: Sequence[Result] = ()
        self._error: BaseException | None = None

    @property
    def leads(self) -> bool:
        """Whether the caller must lead its group; else the group has been served."""
        return not self._found and self._error is None

    @property
    def items(self) -> list[Item]:
        """Items of the group, the leader's first."""
        return [turn.item for turn in self._group]

    def pass_on(self) -> None:
        """Start the next group while this one still has work to do."""
        self._has_passed_on = True
        self._groups.pass_on()

    def __enter__(self) -> Self:
        self._group = self._groups.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if not self._has_passed_on:
            self.pass_on()
        group, self._group = (
            self._group,
            [],
        )  # break the reference cycle: the group contains this turn
        if error is None and len(self.results) != len(group):
            error = ValueError(f"{len(self.results)} results for a group of {len(group)}")
        if error is not None and not isinstance(error, FlywheelError):
            _LOGGER.error("failed for %d callers", len(group), exc_info=error)
        for number, turn in enumerate(group):
            turn.settle(self.results[number : number + 1] if error is None else (), error)
        return True  # suppressed here: every member raises it in result()

    def settle(self, found: Sequence[Result], error: BaseException | None) -> None:
        """Wake the caller with its result, or with the error of its group."""
        self._found, self._error = found, error
        self.woken.set()

    def result(self) -> Result:
        """Return the result of the caller's item.

        Raises:
            FlywheelError: the error of the group, converted by `fault`.
        """
        if self._error is not None:
            raise self._groups.fault(self._error) from self._error
        return self._found[0]
