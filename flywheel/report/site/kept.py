"""Keeps what takes longer to read than a page may take, and reads it anew in the background.

It is read when the server starts and whenever a night has ended, so that the first who looks need not
wait. What is older than a minute is read anew when a page asks for it; where that takes longer than a
page may take, the page shows what is kept, and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from flywheel.errors import FlywheelError

_LOGGER = logging.getLogger(__name__)
_KEPT_SECONDS = 60.0
_PATIENCE_SECONDS = 0.1
"""that a page waits for what is read anew, while it has something to show"""
_LOOK_SECONDS = 10.0

Value = TypeVar("Value")


class Kept:
    """Values by name, each read by one thread, since the model server needs the others."""

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, "pages")
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._values: dict[str, tuple[float, Any]] = {}
        self._reading: dict[str, Future[Any]] = {}
        self._follower: threading.Thread | None = None

    def get(self, name: str, read: Callable[[], Value]) -> tuple[Value, bool]:
        """Return the value, and whether it is an old one that is being read anew; what `read` raises."""
        with self._lock:
            known = self._values.get(name)
            if known is not None and time.monotonic() - known[0] <= _KEPT_SECONDS:
                return known[1], False
            # Two who ask at the same time wait for the same.
            reading = self._reading.get(name) or self._reader.submit(self._read, name, read)
            self._reading[name] = reading
        if known is not None and not wait([reading], _PATIENCE_SECONDS).done:
            return known[1], True
        return reading.result(), False

    def _read(self, name: str, read: Callable[[], Value]) -> Value:
        began = time.monotonic()
        try:
            value = read()
            with self._lock:
                self._values[name] = (began, value)
        finally:
            with self._lock:
                del self._reading[name]
        return value

    def follow(self, mark: Callable[[], Hashable], pages: Sequence[Callable[[], object]]) -> None:
        """Ask for pages now, and in the background each time that the mark is another one."""
        self._follower = threading.Thread(
            target=self._follow, args=(mark, pages), name="pages followed", daemon=True
        )
        self._follower.start()

    def _follow(self, mark: Callable[[], Hashable], pages: Sequence[Callable[[], object]]) -> None:
        seen: Hashable = None
        while not self._ended.is_set():
            try:
                found = mark()
                if found != seen:
                    self._expire()
                    for page in pages:
                        page()
                seen = found
            except (FlywheelError, SQLAlchemyError, OSError) as error:
                _LOGGER.warning("the pages are read when they are asked for: %s", error)
            self._ended.wait(_LOOK_SECONDS)

    def _expire(self) -> None:
        with self._lock:
            self._values = {
                name: (-_KEPT_SECONDS, value) for name, (_, value) in self._values.items()
            }

    def close(self) -> None:
        """End it, once what is being read is read."""
        self._ended.set()
        if self._follower is not None:
            self._follower.join()
        self._reader.shutdown()
