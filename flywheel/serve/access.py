"""Authentication of the model server: commands need a token, and so does all from other machines.

Browsers may send it as a password (HTTP Basic), but only to read pages: requests that change
something need a Bearer header, which another site cannot make a browser send. Label Studio's
events have a secret of their own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flywheel.errors import SettingsError
from flywheel.private import drawn_secret
from flywheel.project import Project, secret
from flywheel.web import is_loopback_host

EVENTS_PATH = "/label-studio/events"
"""where Label Studio sends its events, with their own secret"""

_VARIABLE = "FLYWHEEL_SERVER_TOKEN"
_OPEN_PATHS = frozenset({"/health", "/healthz", "/readyz", EVENTS_PATH})
_CALLERS_PATHS = frozenset({"/predict", "/feedback", "/predictions"})
"""what callers on this machine send without a token"""
_PAGES = ("/reports/", "/pages/")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self' data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""of a written page: it shows its own pictures and sounds, and runs and loads nothing"""


def required_token(host: str) -> str | None:
    """Return the token that callers must send; None: none is needed.

    Raises:
        SettingsError: the host is not loopback and no token is set.
    """
    token = secret(_VARIABLE)
    if token is None and not is_loopback_host(host):
        raise SettingsError(
            f"serve.host = {host!r} can be reached from other machines, and {_VARIABLE} is not "
            f"set. Set it to a long random text, or write serve.host = '127.0.0.1'."
        )
    return token


def command_token(project: Project) -> str | None:
    """Return the token of commands such as POST /model; None: it is not known on this machine.

    It is FLYWHEEL_SERVER_TOKEN, and on loopback else one that is drawn once and kept in the state
    folder, where only the project's owner reads it.
    """
    token = secret(_VARIABLE)
    if token is None and is_loopback_host(project.serve.host):
        return drawn_secret(token_file(project))
    return token


def token_file(project: Project) -> Path:
    """Return the file that keeps the token of commands on loopback."""
    return project.state / "server-token"


class TokenGate:
    """ASGI middleware: all but a few paths need `Authorization: Bearer TOKEN`.

    Pages also accept HTTP Basic with any user name and the token as password. With
    `commands_only`, reading needs no token, and neither do predictions and feedback.
    """

    def __init__(self, app: ASGIApp, token: str, *, commands_only: bool = False) -> None:
        self._app = app
        self._token = token.encode()
        self._commands_only = commands_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http" or self._is_open(scope) or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        message = (
            f"The request has no valid token. Send the header Authorization: Bearer <{_VARIABLE}>"
        )
        if self._commands_only:
            message += ", or with the token in .flywheel/server-token where that is not set"
        wanted = "Bearer"
        if _is_page(scope):
            message += f", or any user name with {_VARIABLE} as password"
            wanted = 'Basic realm="flywheel"'
        refusal = JSONResponse({"detail": f"{message}."}, 401, {"WWW-Authenticate": wanted})
        await refusal(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        if scope["path"] in _OPEN_PATHS:
            return True
        is_read = scope["method"] in {"GET", "HEAD"}
        return self._commands_only and (is_read or scope["path"] in _CALLERS_PATHS)

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
    is_page = path == "/" or path.startswith(_PAGES)
    return scope["method"] in {"GET", "HEAD"} and is_page


def _password(encoded: bytes) -> bytes:
    """The password of `user:password` in base64; empty when it is invalid."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
