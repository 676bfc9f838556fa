"""Dynamic batching: requests that come while the model works form the next batch.

There is no batching delay, and no thread for a caller. While one thread asks the model about all that
has come, another stores what it answered before.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from flywheel.errors import FlywheelError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOGGER = logging.getLogger(__name__)


class _Ticket(NamedTuple, Generic[Item, Result]):
    item: Item
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]


_Batch = tuple[Sequence[_Ticket[Item, Result]], Sequence[Result | Exception]]


class Batches(Generic[Item, Result]):
    """Serves items in batches of at most `most`.

    `work` makes of the items a result or an error each, in one thread at a time. `finish` gets these,
    and returns what is given to the callers; under load it runs beside the next `work`, for several
    batches at once. What either raises is raised by all callers it was for, converted by `fault` to an
    exception of each.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        finish: Callable[[Sequence[Result | Exception]], Sequence[Result | Exception]],
        *,
        fault: Callable[[BaseException], FlywheelError],
        most: int,
    ) -> None:
        self._work, self._finish, self._fault, self._most = work, finish, fault, most
        self._waiting: SimpleQueue[_Ticket[Item, Result] | None] = SimpleQueue()
        self._worked: SimpleQueue[_Batch[Item, Result] | None] = SimpleQueue()
        self._is_finishing = False
        self._threads = [
            threading.Thread(target=target, name="batches", daemon=True)
            for target in (self._keep_working, self._keep_finishing)
        ]
        for thread in self._threads:
            thread.start()

    async def ask(self, item: Item) -> Result:
        """Return the result of an item.

        Raises:
            FlywheelError: that of the item, or of its batch.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.put(_Ticket(item, loop, future))
        return await future

    def close(self) -> None:
        """End the threads once all that waits has been served."""
        self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _keep_working(self) -> None:
        while tickets := self._take():
            found = self._attempt(self._work, [ticket.item for ticket in tickets])
            if self._waiting.empty() and self._worked.empty() and not self._is_finishing:
                # No one else waits: a change of threads would take longer than to finish it here.
                self._deliver(tickets, self._attempt(self._finish, found))
            else:
                self._worked.put((tickets, found))
        self._worked.put(None)

    def _keep_finishing(self) -> None:
        while batch := self._worked.get():
            self._is_finishing = True
            tickets, found = list(batch[0]), list(batch[1])
            while not self._worked.empty():
                more = self._worked.get()
                if more is None:
                    self._worked.put(None)  # for the next look
                    break
                tickets += more[0]  # all that has been worked at meanwhile waits for the disk once
                found += more[1]
            self._deliver(tickets, self._attempt(self._finish, found))
            self._is_finishing = False

    def _take(self) -> list[_Ticket[Item, Result]]:
        """Wait for an item, and take those that wait behind it; nothing once the queue is closed."""
        tickets = list[_Ticket[Item, Result]]()
        ticket = self._waiting.get()
        while ticket is not None:
            tickets.append(ticket)
            if len(tickets) == self._most:
                return tickets
            try:
                ticket = self._waiting.get_nowait()
            except Empty:
                return tickets
        self._waiting.put(None)  # for the next look
        return tickets

    def _attempt(
        self, step: Callable[[Sequence[Any]], Sequence[Result | Exception]], given: Sequence[Any]
    ) -> Sequence[Result | Exception]:
        """What a step returns; in place of what it raises, an error for each."""
        found = attempt(step, given)
        if not isinstance(found, Exception) and len(found) != len(given):
            found = ValueError(f"{len(found)} results for a batch of {len(given)}")
        if not isinstance(found, Exception):
            return found
        if not isinstance(found, FlywheelError):
            _LOGGER.error("failed for %d callers", len(given), exc_info=found)
        return [self._fault(found) for _ in given]

    def _deliver(
        self, tickets: Sequence[_Ticket[Item, Result]], found: Sequence[Result | Exception]
    ) -> None:
        # All of one server's requests come from one loop, which may have ended meanwhile.
        with suppress(RuntimeError):
            tickets[0].loop.call_soon_threadsafe(_settle, tickets, found)


def attempt(step: Callable[[Item], Result], given: Item) -> Result | Exception:
    """What a step returns, or the exception that it raises; a user's code may raise anything."""
    try:
        return step(given)
    except Exception as error:  # noqa: BLE001  it is the caller's, in whose thread it does not run
        return error
    except SystemExit as error:
        return RuntimeError(f"the code of the task ended with exit status {error.code}")


def _settle(tickets: Sequence[_Ticket[Any, Any]], found: Sequence[Any]) -> None:
    for ticket, result in zip(tickets, found, strict=True):
        if ticket.future.done():  # the caller has hung up
            continue
        if isinstance(result, Exception):
            ticket.future.set_exception(result)
        else:
            ticket.future.set_result(result)
