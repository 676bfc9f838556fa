"""Label Studio's events: where it shall send them, and what is done when one arrives.

It calls inside the annotator's request and waits up to a second, so an event is only counted,
by the event loop itself: every thread may be waiting for the model. What an event says is never
read, since its body holds tokens, and the pull is the truth.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response

from flywheel.project import Project, secret
from flywheel.records import Webhook
from flywheel.serve.access import EVENTS_PATH, is_loopback
from flywheel.serve.events import Hints

_VARIABLE = "FLYWHEEL_WEBHOOK_SECRET"
_HEADER = "X-Flywheel-Secret"
_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not listened on
_MOST_BYTES = 1_000_000

router = APIRouter()


def webhook_of(project: Project) -> Webhook | None:
    """The webhook to register for a project; None: none, and only the sweeps find annotations.

    There is none without FLYWHEEL_WEBHOOK_SECRET, nor when the settings do not tell how Label
    Studio reaches the model server: from another machine, neither loopback nor `0.0.0.0` is an
    address of it, so [serve] public_url must.
    """
    shared = secret(_VARIABLE)
    if shared is not None and project.serve.public_url is not None:
        return Webhook(url=project.serve.public_url.rstrip("/") + EVENTS_PATH, secret=shared)
    is_beside = is_loopback(urlsplit(project.labeling.url).hostname or "")
    host = project.serve.host
    if shared is None or not (is_beside or _is_seen_from_afar(host)):
        return None
    base = (
        f"http://127.0.0.1:{project.serve.port}" if host in _EVERY_ADDRESS else project.server_url
    )
    return Webhook(url=base + EVENTS_PATH, secret=shared)


@router.post(EVENTS_PATH)
async def _take_event(request: Request) -> Response:
    """Count an event of Label Studio; its body is not read."""
    _check_secret(request.headers.get(_HEADER, ""))
    _check_size(request)
    hints: Hints | None = request.app.state.hints
    if hints:
        hints.heard()
    return Response(status_code=204)


def _is_seen_from_afar(host: str) -> bool:
    return host not in _EVERY_ADDRESS and not is_loopback(host)


def _check_secret(given: str) -> None:
    expected = secret(_VARIABLE)
    if expected is None:
        raise HTTPException(
            404,
            f"no events are taken here: {_VARIABLE} is not set; set it for the model server, "
            f"and let Label Studio's webhook send it as {_HEADER}",
        )
    if not hmac.compare_digest(given.encode("latin-1"), expected.encode()):
        raise HTTPException(
            401, f"the header {_HEADER} is not the server's {_VARIABLE}; send the same text"
        )


def _check_size(request: Request) -> None:
    """Refuse a body that is too long; one that does not say how long it is could be."""
    declared = request.headers.get("content-length")
    if declared is None and "transfer-encoding" not in request.headers:
        return
    if declared is None or not declared.isdecimal() or int(declared) > _MOST_BYTES:
        raise HTTPException(
            413,
            f"Content-Length is {str(declared)[:20]}, at most {_MOST_BYTES} bytes are allowed; "
            "let the webhook send no payload, it is not read",
            headers={"Connection": "close"},  # and neither is the rest of this one
        )
