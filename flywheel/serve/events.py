"""Turns many events into few calls: something has changed over there, so look now.

An event says nothing but that it came, so a burst is worth one look, when it is over. Who looks, and at what, is the business of who hands the function in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_LOGGER = logging.getLogger(__name__)


class Hints:
    """Calls `tell` with the number of events that came since its last call.

    Events are told together once none has come for `quiet` seconds, and `seconds` after the first
    of them at the latest; calls begin at least `seconds` apart. So a burst has one call, after its
    last event. A call that fails is made again as much later, with its events and those since.
    """

    def __init__(
        self,
        tell: Callable[[int], None],
        *,
        seconds: float = 60.0,
        quiet: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._tell = tell
        self._seconds = seconds
        self._quiet = quiet
        self._clock = clock
        self._closing = threading.Event()
        self._pause = pause or self._closing.wait
        self._lock = threading.Lock()
        self._waiting = 0
        self._is_busy = False
        self._next_at = self._first_at = self._last_at = clock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hints")

    def heard(self) -> None:
        """Count an event; who calls this never waits for `tell`."""
        with self._lock:
            self._last_at = self._clock()
            if self._waiting == 0:
                self._first_at = self._last_at
            self._waiting += 1
            if not self._is_busy:
                self._begin()

    def close(self) -> None:
        """Tell what is left without waiting for its time, then end; later events are dropped."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                self._is_busy = True
                # Behind a call that runs, whose failure puts its own events back.
                self._pool.submit(self._rest).add_done_callback(_note_failure)
        self._pool.shutdown()

    def _begin(self) -> None:
        self._is_busy = True
        self._pool.submit(self._work).add_done_callback(_note_failure)

    def _work(self) -> None:
        while (left := self._due_at() - self._clock()) > 0 and not self._closing.is_set():
            self._pause(left)
        self._next_at = self._clock() + self._seconds
        with self._lock:
            number, self._waiting = self._waiting, 0
        told = False
        try:
            self._tell(number)
            told = True
        finally:
            self._end(0 if told else number)

    def _due_at(self) -> float:
        over = min(self._last_at + self._quiet, self._first_at + self._seconds)
        return max(self._next_at, over)

    def _end(self, num_left: int) -> None:
        with self._lock:
            self._waiting += num_left
            self._is_busy = self._closing.is_set()
            if self._waiting and not self._is_busy:
                self._begin()

    def _rest(self) -> None:
        if self._waiting:
            self._work()


def _note_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _LOGGER.error("events could not be told; nothing else waits for them", exc_info=error)
