"""Authentication of the model server: other machines need a token.

Browsers may send it as a password (HTTP Basic), but only to read pages: requests that change
something need a Bearer header, which another site cannot make a browser send. Label Studio's
events have a secret of their own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flywheel.errors import SettingsError
from flywheel.project import secret

EVENTS_PATH = "/label-studio/events"
"""where Label Studio sends its events, with their own secret"""

_VARIABLE = "FLYWHEEL_SERVER_TOKEN"
_OPEN_PATHS = frozenset({"/health", EVENTS_PATH})


def required_token(host: str) -> str | None:
    """Return the token that callers must send; None: none is needed.

    Raises:
        SettingsError: the host is not loopback and no token is set.
    """
    token = secret(_VARIABLE)
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"serve.host = {host!r} can be reached from other machines, and {_VARIABLE} is not "
            f"set. Set it to a long random text, or write serve.host = '127.0.0.1'."
        )
    return token


class TokenGate:
    """ASGI middleware: all but a few paths need `Authorization: Bearer TOKEN`.

    Pages also accept HTTP Basic with any user name and the token as password.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        message = (
            f"The request has no valid token. Send the header Authorization: Bearer <{_VARIABLE}>"
        )
        wanted = "Bearer"
        if _is_page(scope):
            message += f", or any user name with {_VARIABLE} as password"
            wanted = 'Basic realm="flywheel"'
        refusal = JSONResponse({"detail": f"{message}."}, 401, {"WWW-Authenticate": wanted})
        await refusal(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        kind, _, rest = given.partition(b" ")
        if kind.lower() == b"basic" and _is_page(scope):
            rest = _password(rest)
        elif kind.lower() != b"bearer":
            return False
        return hmac.compare_digest(rest, self._token)


def _is_page(scope: Scope) -> bool:
    """Whether the request reads a page."""
    path = scope["path"]
    return scope["method"] in {"GET", "HEAD"} and (path == "/" or path.startswith("/reports/"))


def _password(encoded: bytes) -> bytes:
    """The password of `user:password` in base64; empty when it is invalid."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
