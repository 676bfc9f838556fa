"""The addresses of the site: each maps a request to a page; what cannot be shown is a page that says why.

Pages load nothing from elsewhere and run no script but the site's own file. All text from outside is
escaped by the templates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError, UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.judged import find_decision
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.samples import find_sample
from flywheel.loop import Loop
from flywheel.project import FILE_NAME, Project, load_project
from flywheel.report.dossier import file_dossier
from flywheel.report.kit.pages import compile_templates, dossier_place, render
from flywheel.report.kit.tables import Sheet
from flywheel.report.night.page import report_name
from flywheel.report.overview.facts import ReleaseFacts
from flywheel.report.overview.page import OVERVIEW_PAGE
from flywheel.report.site.gallery import find
from flywheel.report.site.home import annotators, assessment, read_home, releases
from flywheel.report.site.kept import Kept
from flywheel.report.site.life import LARGE, SMALL, life, picture
from flywheel.report.site.map import read_map
from flywheel.report.site.night import read_night
from flywheel.report.site.query import CHANGES, GALLERY, MODELS, STATES, read_query, samples_address
from flywheel.report.site.sending import Selection, take
from flywheel.serve.access import PAGE_HEADERS
from flywheel.serve.requests import command_body, read_command
from flywheel.task import Task

POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""charts of the exported pages have styles of their own; no script stands in a page"""
_HEADERS = {
    **PAGE_HEADERS,
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
}
HOME = "/pages/"
_NAVIGATION = (
    ("home", "Overview", HOME),
    ("samples", "Samples", GALLERY),
    ("map", "Map", "/pages/map"),
    ("annotators", "Annotators", "/pages/annotators"),
    ("releases", "Releases", "/pages/releases"),
    ("assess", "Assess", "/pages/assess"),
)
_DIGITS = 9

Page = Callable[..., Response]


class _Current:
    """The project with its settings as they are now: each night reads the file anew, so pages do too."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self._stamp = loop, _stamp(loop.project)

    def __call__(self) -> Loop:
        """Return the loop to show.

        Raises:
            SettingsError: the file has changed, and cannot be read as it is now.
        """
        stamp = _stamp(self._loop.project)
        if stamp != self._stamp:
            project = load_project(self._loop.project.directory)
            self._loop, self._stamp = replace(self._loop, project=project), stamp
        return self._loop


def _stamp(project: Project) -> int | None:
    """Return when the settings were written; None: there is no file."""
    path = project.directory / FILE_NAME
    return path.stat().st_mtime_ns if path.exists() else None


def site(project: Project, task: Task, ledger: Ledger, blobs: Blobs) -> APIRouter:
    """Return the routes of a project's site."""
    loop = Loop(
        project=project, task=task, ledger=ledger, blobs=blobs, now=lambda: datetime.now(UTC)
    )
    compile_templates()
    current, kept = _Current(loop), Kept()
    router = APIRouter(lifespan=partial(_following, current, kept))
    router.add_api_route("/pages/site.css", _style, methods=["GET"])
    router.add_api_route("/pages/site.js", _script, methods=["GET"])

    def page(path: str, make: Callable[[Loop, Request], Response]) -> None:
        def answer(request: Request) -> Response:
            try:
                return make(current(), request)
            except FlywheelError as error:
                return _fault(loop, error)

        router.add_api_route(path, answer, methods=["GET"])

    page("/", lambda _loop, _request: RedirectResponse(HOME, headers=_HEADERS))
    page(HOME, _home)
    page("/pages/map", _map)
    page("/pages/annotators", partial(_annotators, kept))
    page("/pages/releases", _releases)
    page("/pages/assess", partial(_assess, kept))
    router.add_api_route("/pages/send", partial(_send, current), methods=["POST"])
    page(GALLERY, _samples)
    page("/pages/samples/{sample_id}", _sample)
    page("/pages/samples/{sample_id}/{edge}/{name}", _picture)
    page("/pages/nights/{number}", _night)
    page("/pages/decisions/{decision_id}", _dossier)
    page("/pages/{rest:path}", _missing)
    return router


@asynccontextmanager
async def _following(current: _Current, kept: Kept, _app: object) -> AsyncIterator[None]:
    """Read what takes long while the server runs, and again after each night or change of settings."""

    def mark() -> tuple[int, int | None]:
        loop = current()
        with loop.ledger.read() as connection:
            return current_night_number(connection), _stamp(loop.project)

    kept.follow(mark, [lambda: annotators(current(), kept), lambda: assessment(current(), kept)])
    try:
        yield
    finally:
        await to_thread.run_sync(kept.close)


def _show(loop: Loop, template: str, here: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page in the frame of the site."""
    frame = {"project": loop.project, "navigation": _NAVIGATION, "here": here}
    html = render(template, **frame | {"samples": samples_address} | values)
    return HTMLResponse(html, status, headers=_HEADERS)


def _fault(loop: Loop, error: FlywheelError) -> HTMLResponse:
    """Return the page that says what is wrong and where to go on."""
    status = 404 if isinstance(error, UnknownIdError) else 400
    status = 503 if isinstance(error, UnavailableError) else status
    return _show(loop, "site/fault.html", "", status, said=str(error))


def _missing(loop: Loop, request: Request) -> HTMLResponse:
    path = request.url.path[:200]
    said = f"There is no page {path}. Choose one of those above."
    return _show(loop, "site/fault.html", "", 404, said=said)


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
        "site/samples.html",
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
    return _show(loop, "site/sample.html", "samples", one=life(loop, sample_id))


def _picture(loop: Loop, request: Request) -> Response:
    given = request.path_params
    edge = LARGE if given["edge"] == str(LARGE) else SMALL
    media_type, data = picture(loop, given["sample_id"], given["name"], edge)
    return Response(
        data, media_type=media_type, headers={**_HEADERS, "Cache-Control": "max-age=60"}
    )


def _number(request: Request) -> int:
    """Return the night of an address.

    Raises:
        UnknownIdError: it is no number.
    """
    given: str = request.path_params["number"]
    if not (given.isascii() and given.isdecimal()) or len(given) > _DIGITS:
        raise UnknownIdError(f"{given[:100]!r} is no night. Write its number, such as 3.")
    return int(given)


def _night(loop: Loop, request: Request) -> Response:
    number = _number(request)
    page = read_night(loop, number)
    name = report_name(number)
    return _show(loop, "site/night.html", "nights", page=page, archive=_archive(loop, name))


def _dossier(loop: Loop, request: Request) -> Response:
    """Lead to the dossier of a decision, which is written when it is first asked for."""
    with loop.ledger.read() as connection:
        decision = find_decision(connection, request.path_params["decision_id"])
    place = dossier_place(decision.id)
    if not (loop.project.state / "reports" / place).exists():
        file_dossier(loop, decision.id)
    return RedirectResponse(f"/reports/{place}", headers=_HEADERS)


def _archive(loop: Loop, name: str) -> str:
    """Return the address of an exported page; "": it has not been written."""
    return f"/reports/{name}" if (loop.project.state / "reports" / name).exists() else ""


def _home(loop: Loop, request: Request) -> Response:
    before = request.query_params.get("before", "")
    home = read_home(loop, int(before) if before.isdecimal() and len(before) <= _DIGITS else None)
    host = getattr(
        request.app.state, "host", None
    )  # of the model server, which knows what it loaded
    fault = host.fault if host is not None else None
    archive = _archive(loop, OVERVIEW_PAGE)
    return _show(loop, "site/home.html", "home", home=home, archive=archive, fault=fault)


def _map(loop: Loop, request: Request) -> Response:
    del request
    return _show(loop, "site/map.html", "map", map=read_map(loop, is_judged=True))


def _annotators(kept: Kept, loop: Loop, request: Request) -> Response:
    every = "all" in request.query_params
    return _show(
        loop,
        "labeling.html",
        "annotators",
        layout="site/base.html",
        charts={},
        link=lambda name: samples_address(annotator=name),
        **annotators(loop, kept, every=every),
    )


def _releases(loop: Loop, request: Request) -> Response:
    del request
    return _sheets(loop, "releases", "Releases", *releases(loop))


def _assess(kept: Kept, loop: Loop, request: Request) -> Response:
    del request
    return _sheets(loop, "assess", "What it still takes", *assessment(loop, kept))


def _sheets(
    loop: Loop,
    here: str,
    title: str,
    facts: ReleaseFacts,
    sheets: Sequence[Sheet],
    is_old: bool = False,
) -> HTMLResponse:
    at = facts.written_at
    return _show(loop, "site/sheets.html", here, title=title, sheets=sheets, at=at, is_old=is_old)


def _send(
    current: _Current, request: Request, body: Annotated[bytes, Depends(command_body)]
) -> JSONResponse:
    return JSONResponse(take(current(), read_command(request, body, Selection)))
