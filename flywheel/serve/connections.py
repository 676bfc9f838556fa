"""Connections of the model server: one whose headers never come is closed, as a body is (requests.py).

A caller that opens connections and sends a byte a minute would hold them for ever, with no request that
is counted anywhere.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_SECONDS = 30.0
_LATE = b"The headers of the request did not come in time. Send them at once."
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_LATE), _LATE)
)


class Connection(HttpToolsProtocol):
    """uvicorn's own, with a limit on the time from the first byte of a request to its last header."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._end_wait()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the headers of another request."""
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        """Pass the request on; its body has a limit of its own."""
        self._end_wait()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_MOST_SECONDS, self._give_up)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_ANSWER)
            self.transport.close()
