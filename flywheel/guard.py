"""The guard in front of a local server: which host names it answers to, and which pages may use it.

A browser sends what any page asks for to loopback too, so listening there alone keeps no page out. A
page of another site has another `Origin`, and one whose name was pointed at 127.0.0.1 (DNS
rebinding) another `Host`. Programs send no `Origin` and pass.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"", "same-origin", "none"})

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Guard:
    """ASGI middleware: 400 for a foreign `Host`, 403 for what another site's page wants changed.

    `pages` are the addresses by which users reach the server; loopback names are always allowed.
    `origins` are other sites whose pages may ask.
    Without `checks_host` every name is allowed, for a server that asks other machines for a token.
    """

    def __init__(
        self,
        app: App,
        pages: Iterable[str] = (),
        *,
        origins: Iterable[str] = (),
        checks_host: bool = True,
    ) -> None:
        addresses = [urlsplit(page) for page in pages]
        names = frozenset(address.hostname or "" for address in addresses)
        self._app = app
        self._names = LOOPBACK | names if checks_host else None
        self._own = frozenset(same for page in pages for same in origins_of(page)).union(origins)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Let the request through, or refuse it."""
        if scope["type"] == "lifespan" or (fault := self._fault(scope)) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, detail = fault
            body = json.dumps({"detail": detail}).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),  # a body that was sent is not read
            ]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _fault(self, scope: Message) -> tuple[int, str] | None:
        """Return status and detail of the refusal; None: the request is let through."""
        host = ",".join(_headers(scope, b"host"))
        if self._names is not None and _name(host) not in self._names:
            return 400, (
                f"Host is {host[:200]!r}, which is not a name of this server. Use "
                "127.0.0.1, or write the address that users open under [links] in flywheel.toml."
            )
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return None
        origin = ",".join(_headers(scope, b"origin"))
        if origin in self._own:
            return None
        is_own = not origin or (bool(host) and urlsplit(origin).netloc == host.lower())
        if is_own and ",".join(_headers(scope, b"sec-fetch-site")) in _OWN_SITE:
            return None
        return 403, (
            f"Origin is {origin[:200]!r}, a page of another site. Send the request from a program, "
            "or write the address that users open under [links] in flywheel.toml."
        )


def origins_of(page: str) -> list[str]:
    """Return the origins of a page: its own, and for one on loopback the other name of loopback."""
    address = urlsplit(page)
    origins = [f"{address.scheme}://{address.netloc}".lower()]
    for name, other in (("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")):
        if address.hostname == name:
            port = f":{address.port}" if address.port else ""
            origins.append(f"{address.scheme}://{other}{port}")
    return origins


def _headers(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is invalid."""
    try:
        address = urlsplit(f"//{host}")
    except ValueError:
        return ""
    is_host = address.netloc == host and "@" not in host
    return (address.hostname or "") if is_host else ""
