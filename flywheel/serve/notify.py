"""Tells the outside that hard samples have piled up, without a request ever waiting for it.

What is done about it (an event, say) is the business of who hands the function in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """What the outside is told by, each called in a thread of its own; None: it is not told."""

    on_hard_samples: Callable[[int], None] | None = None
    """called with the number of low-confidence predictions, whenever another
    collect.hard_samples of them have been stored"""
    on_annotations: Callable[[int], None] | None = None
    """called with the number of events that Label Studio has sent, once a burst of them is
    over, and once a minute while it goes on; a call that raises is made again"""


class HardSamples:
    """Counts predictions under a confidence, and calls `tell` with each `every` of them.

    While an earlier call still runs, the count goes on and is told with the next one.
    """

    def __init__(self, tell: Callable[[int], None], *, low_confidence: float, every: int) -> None:
        self._tell = tell
        self._low_confidence = low_confidence
        self._every = every
        self._lock = threading.Lock()
        self._count = 0
        self._running: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hard-samples")

    def stored(self, confidences: Iterable[float]) -> None:
        """Count predictions that have just been stored."""
        hard = sum(confidence < self._low_confidence for confidence in confidences)
        with self._lock:
            self._count += hard
            idle = self._running is None or self._running.done()
            if self._count < self._every or not idle:
                return
            self._running = self._pool.submit(self._tell, self._count)
            self._running.add_done_callback(_note_failure)
            self._count = 0

    def close(self) -> None:
        """Wait for a call that runs."""
        self._pool.shutdown()


def _note_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _LOGGER.error("on_hard_samples failed; serving goes on", exc_info=error)
