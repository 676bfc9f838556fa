"""The addresses of the site: each maps a request to a page; what cannot be shown is a page that says why.

Pages load nothing from elsewhere and run no script but the site's own file. All text from outside is
escaped by the templates.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError, UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.samples import find_sample
from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.report.kit.pages import render
from flywheel.report.site.gallery import find
from flywheel.report.site.life import LARGE, SMALL, life, picture
from flywheel.report.site.query import CHANGES, GALLERY, MODELS, STATES, read_query, samples_address
from flywheel.task import Task

POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""charts of the exported pages have styles of their own; no script stands in a page"""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NAVIGATION = (("samples", "Samples", GALLERY),)

Page = Callable[..., Response]


def site(project: Project, task: Task, ledger: Ledger, blobs: Blobs) -> APIRouter:
    """Return the routes of a project's site."""
    loop = Loop(
        project=project, task=task, ledger=ledger, blobs=blobs, now=lambda: datetime.now(UTC)
    )
    router = APIRouter()
    router.add_api_route("/pages/site.css", _style, methods=["GET"])
    router.add_api_route("/pages/site.js", _script, methods=["GET"])

    def page(path: str, make: Callable[[Loop, Request], Response]) -> None:
        def answer(request: Request) -> Response:
            try:
                return make(loop, request)
            except FlywheelError as error:
                return _fault(loop, error)

        router.add_api_route(path, answer, methods=["GET"])

    page(GALLERY, _samples)
    page("/pages/samples/{sample_id}", _sample)
    page("/pages/samples/{sample_id}/{edge}/{name}", _picture)
    page("/pages/{rest:path}", _missing)
    return router


def _show(loop: Loop, template: str, here: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page in the frame of the site."""
    html = render(
        f"site/{template}",
        project=loop.project,
        navigation=_NAVIGATION,
        here=here,
        samples=samples_address,
        **values,
    )
    return HTMLResponse(html, status, headers=_HEADERS)


def _fault(loop: Loop, error: FlywheelError) -> HTMLResponse:
    """Return the page that says what is wrong and where to go on."""
    status = 404 if isinstance(error, UnknownIdError) else 400
    status = 503 if isinstance(error, UnavailableError) else status
    return _show(loop, "fault.html", "", status, said=str(error))


def _missing(loop: Loop, request: Request) -> HTMLResponse:
    path = request.url.path[:200]
    said = f"There is no page {path}. Choose one of those above."
    return _show(loop, "fault.html", "", 404, said=said)


def _style() -> Response:
    return _file("night.css", "site/site.css", media_type="text/css")


def _script() -> Response:
    return _file("site/site.js", media_type="text/javascript")


def _file(*names: str, media_type: str) -> Response:
    folder = files("flywheel.report.kit") / "templates"
    text = "\n".join((folder / name).read_text("utf-8") for name in names)
    headers = {**_HEADERS, "Cache-Control": "max-age=300"}
    return Response(text, media_type=media_type, headers=headers)


def _samples(loop: Loop, request: Request) -> Response:
    query = read_query(request.query_params)
    found = find(loop, query)
    return _show(
        loop,
        "samples.html",
        "samples",
        query=query,
        found=found,
        chips=list(query.chips()),
        states=STATES,
        changes=CHANGES,
        models=MODELS,
        slices=list(loop.task.slices),
        next_page=query.address(start=found.more) if found.more is not None else None,
    )


def _sample(loop: Loop, request: Request) -> Response:
    key = request.path_params["sample_id"]
    with loop.ledger.read() as connection:
        sample_id = find_sample(connection, key)
    if sample_id != key:
        return RedirectResponse(f"{GALLERY}/{sample_id}", headers=_HEADERS)
    return _show(loop, "sample.html", "samples", one=life(loop, sample_id))


def _picture(loop: Loop, request: Request) -> Response:
    given = request.path_params
    edge = LARGE if given["edge"] == str(LARGE) else SMALL
    media_type, data = picture(loop, given["sample_id"], given["name"], edge)
    return Response(
        data, media_type=media_type, headers={**_HEADERS, "Cache-Control": "max-age=60"}
    )
