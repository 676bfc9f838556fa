"""Events of the model server: enough hard samples, and webhooks of Label Studio's annotations.

Both come in bursts and go to slow listeners, so they are debounced: a request only counts, and the
listener (which emits Prefect events) is called in a thread of its own.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from flywheel.project import Project, secret
from flywheel.records import Webhook
from flywheel.serve.access import EVENTS_PATH
from flywheel.web import is_loopback_host

_LOGGER = logging.getLogger(__name__)
_VARIABLE = "FLYWHEEL_WEBHOOK_SECRET"
_HEADER = "X-Flywheel-Secret"
_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
_MAX_BODY_BYTES = 1_000_000
_RETRY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """Functions called on events, each in a thread of its own; None: not called.

    A call that raises is logged and repeated a minute later, with the events since.
    """

    on_hard_samples: Callable[[int], None] | None = None
    """called with the number of low-confidence predictions since the last call, once there are
    collect.hard_samples of them"""
    on_annotations: Callable[[int], None] | None = None
    """called with the number of Label Studio's events, after each burst, and once a minute during
    a long one"""


class Debouncer:
    """Calls `notify` with the number of events since the last call, at most once per interval.

    A call is due when at least `at_least` events wait, and none has come for `quiet` seconds or
    the first of them is `seconds` old; calls begin at least `seconds` apart. So a short
    burst causes one call, after its last event. A call that raises is repeated after a minute, or
    after `seconds` if that is longer, with its events and those since.
    """

    def __init__(
        self,
        notify: Callable[[int], None],
        *,
        at_least: int = 1,
        seconds: float = 60.0,
        quiet: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._notify = notify
        self._at_least = at_least
        self._seconds = seconds
        self._quiet = quiet
        self._clock = clock
        self._closing = threading.Event()
        self._pause = pause or self._closing.wait
        self._lock = threading.Lock()
        self._waiting = 0
        self._is_busy = False
        self._next_at = self._first_at = self._last_at = clock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="debouncer")

    def add(self, num_events: int = 1) -> None:
        """Count events; never waits for `notify`."""
        if num_events == 0:
            return
        with self._lock:
            self._last_at = self._clock()
            if self._waiting == 0:
                self._first_at = self._last_at
            self._waiting += num_events
            self._begin_if_due()

    def close(self) -> None:
        """Make a pending call now and stop; later events are dropped."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                self._is_busy = True
                # Runs after a call in progress; if that one fails, this one counts its events.
                self._pool.submit(self._flush).add_done_callback(_log_failure)
        self._pool.shutdown()

    def _begin_if_due(self) -> None:
        if not self._is_busy and self._waiting >= self._at_least:
            self._is_busy = True
            self._pool.submit(self._call).add_done_callback(_log_failure)

    def _call(self) -> None:
        # New events move the due time, so recompute it after every pause.
        while (left := self._due_at() - self._clock()) > 0 and not self._closing.is_set():
            self._pause(left)
        began = self._clock()
        self._next_at = began + max(self._seconds, _RETRY_SECONDS)  # in case the call raises
        with self._lock:
            num_events, self._waiting = self._waiting, 0
        num_failed = num_events
        try:
            self._notify(num_events)
            self._next_at, num_failed = began + self._seconds, 0
        finally:
            self._end(num_failed)

    def _due_at(self) -> float:
        over = min(self._last_at + self._quiet, self._first_at + self._seconds)
        return max(self._next_at, over)

    def _end(self, num_failed: int) -> None:
        with self._lock:
            self._waiting += num_failed
            self._is_busy = self._closing.is_set()
            self._begin_if_due()

    def _flush(self) -> None:
        if self._waiting >= self._at_least:
            self._call()


def webhook_of(project: Project) -> Webhook | None:
    """Return the webhook to register for a project; None: only reconciliation finds annotations.

    It needs FLYWHEEL_WEBHOOK_SECRET and an address by which Label Studio reaches the model server:
    from another machine loopback and `0.0.0.0` do not work, so [serve] public_url must be set.
    """
    shared = secret(_VARIABLE)
    if shared is not None and project.serve.public_url is not None:
        return Webhook(url=project.serve.public_url.rstrip("/") + EVENTS_PATH, secret=shared)
    is_beside = is_loopback_host(urlsplit(project.labeling.url).hostname or "")
    host = project.serve.host
    if shared is None or not (is_beside or _is_seen_from_afar(host)):
        return None
    base = (
        f"http://127.0.0.1:{project.serve.port}" if host in _EVERY_ADDRESS else project.server_url
    )
    return Webhook(url=base + EVENTS_PATH, secret=shared)


def check_event(request: Request) -> None:
    """Check secret and size of a Label Studio event, without reading its body.

    The body is never read: it contains tokens, and annotations are fetched from Label Studio's
    API instead.

    Raises:
        HTTPException: 404 without FLYWHEEL_WEBHOOK_SECRET, 401 for another secret, 413 if the
            body is too long or has no declared length.
    """
    expected = secret(_VARIABLE)
    if expected is None:
        raise HTTPException(
            404,
            f"Events are disabled, since {_VARIABLE} is not set. Set it for the model server, "
            f"and let Label Studio's webhook send it as {_HEADER}.",
        )
    given = request.headers.get(_HEADER, "")
    if not hmac.compare_digest(given.encode("latin-1"), expected.encode()):
        raise HTTPException(
            401, f"The header {_HEADER} is not the server's {_VARIABLE}. Send the same text."
        )
    declared = request.headers.get("content-length")
    if declared is None and "transfer-encoding" not in request.headers:
        return
    if declared is None or not declared.isdecimal() or int(declared) > _MAX_BODY_BYTES:
        raise HTTPException(
            413,
            f"Content-Length is {str(declared)[:20]}, at most {_MAX_BODY_BYTES} bytes are "
            "allowed. Configure the webhook without payload; it is not read.",
            headers={"Connection": "close"},  # the rest of the body is not read
        )


def _is_seen_from_afar(host: str) -> bool:
    return host not in _EVERY_ADDRESS and not is_loopback_host(host)


def _log_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _LOGGER.error(
            "A listener failed; serving continues. The call is repeated with its events.",
            exc_info=error,
        )
