"""Builds the model server of a project, and runs it until a signal stops it.

A connection whose headers never come is closed, as a body is (requests.py): a caller that opens connections
and sends a byte a minute would hold them for ever, with no request that is counted anywhere.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial

import torch
import uvicorn
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flywheel.blobs import Blobs
from flywheel.errors import (
    BusyError,
    FlywheelError,
    SettingsError,
)
from flywheel.guard import Guard
from flywheel.ledger import Ledger
from flywheel.logs import write_logs
from flywheel.private import private_folder
from flywheel.project import Project
from flywheel.serve.access import PAGE_HEADERS, TokenGate, command_token, required_token
from flywheel.serve.bulk import Announcer, Intake, bulk
from flywheel.serve.events import Debouncer, Listeners
from flywheel.serve.host import Host
from flywheel.serve.log import Readiness
from flywheel.serve.metrics import LedgerMetrics, Measured
from flywheel.serve.predicting import CALLER_HEADER, KEY_HEADER, Repeats, predict
from flywheel.serve.requests import METADATA_HEADER, Held, status_of
from flywheel.serve.routes import describe, router
from flywheel.task import Task, load_task
from flywheel.web import is_loopback_host

_LOGGER = logging.getLogger(__name__)
_NO_LISTENERS = Listeners()
Site = Callable[[Project, Task, Ledger, Blobs], APIRouter]
"""makes the routes of the pages that show a project; they come from a higher layer"""
_BACKLOG = 2048
_GRACE_SECONDS = 10
"""that requests in flight have to end once the server is asked to; the body of one may never come"""


def create_app(
    project: Project,
    task: Task,
    ledger: Ledger,
    blobs: Blobs,
    *,
    listeners: Listeners = _NO_LISTENERS,
    site: Site | None = None,
) -> FastAPI:
    """Return the model server of a project, with the current release loaded.

    Raises:
        SettingsError: the host is not loopback and FLYWHEEL_SERVER_TOKEN is not set.
    """
    token = required_token(project.serve.host)
    annotations, hard_samples = _debouncers(project, listeners)
    host = Host(project, task, ledger, blobs, hard_samples=hard_samples)
    host.start(datetime.now(UTC))
    if not project.is_external:
        host.follow_rollouts(datetime.now(UTC))
    # No /docs: that page loads its scripts from the internet.
    app = FastAPI(title=project.name, docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    app.state.host = host
    app.state.annotations, app.state.hard_samples = annotations, hard_samples
    app.state.intake = Intake(
        project=project, ledger=ledger, blobs=blobs, reads=task.inputs, hard_samples=hard_samples
    )
    app.state.repeats = Repeats(host, ledger)
    app.state.readiness = Readiness(project, ledger)
    app.state.held = Held(project.serve.max_payload_bytes)
    for routes in (*([site(project, task, ledger, blobs)] if site else []), router, bulk):
        app.include_router(routes)
    # Asked before FastAPI's route of the same name, which is there to be described: resolving its
    # dependencies takes longer than a small network.
    app.router.routes.insert(0, Route("/predict", predict, methods=["POST"]))
    reports = private_folder(project.state) / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    app.mount("/reports", _Reports(directory=reports))
    app.add_exception_handler(FlywheelError, _answer_fault)
    app.add_exception_handler(ClientDisconnect, _answer_disconnected)
    app.add_exception_handler(Exception, _answer_unexpected)
    _add_middleware(app, project, token)
    host.meter.registry.register(LedgerMetrics(ledger, lambda: host.digest))
    return app


class _Reports(StaticFiles):
    """The written pages, whose policy lets none of them run or load anything."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file of the folder, and for the folder itself lead to the overview."""
        if path == ".":
            return RedirectResponse("/pages/", headers=PAGE_HEADERS)
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response


def _add_middleware(app: FastAPI, project: Project, token: str | None) -> None:
    """Add what each request passes, from the inside out."""
    app.add_middleware(_HeadAsGet)
    app.add_middleware(
        TokenGate, token=token or command_token(project) or "", commands_only=token is None
    )
    origins = project.serve.cors_origins
    if origins:
        headers = ["Authorization", "Content-Type", CALLER_HEADER, KEY_HEADER, METADATA_HEADER]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=headers,
        )
    # Other machines need the token, so there any name will do, such as that of a proxy.
    pages = [page for page in _pages(project) if page is not None]
    is_local = is_loopback_host(project.serve.host)
    app.add_middleware(Guard, pages=pages, origins=origins, checks_host=is_local)
    app.add_middleware(
        Measured, meter=app.state.host.meter
    )  # added last, so outermost: rejected requests are counted too


def run(
    project: Project, *, listeners: Listeners = _NO_LISTENERS, site: Site | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are still answered, within 10 seconds.

    Raises:
        BusyError: the port is taken.
        SettingsError: the host is not an address of this machine, or the token is missing.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # Small batches gain nothing from a second core, which the threads that decode and store
        # need; for a large model on a CPU, set the variable.
        torch.set_num_threads(1)
    task = load_task(project.project.task, project.directory)
    with (
        _listen(project.serve.host, project.serve.port) as listener,
        closing(Ledger.open(project.ledger_url)) as ledger,
    ):
        blobs = Blobs.open(project.blobs_url)
        app = create_app(project, task, ledger, blobs, listeners=listeners, site=site)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=_GRACE_SECONDS,
            http=Connection,
        )
        server = uvicorn.Server(config)
        write_logs(project.name)  # after uvicorn has installed its handlers
        server.run(sockets=[listener])


class _HeadAsGet:
    """ASGI middleware: HEAD is answered as GET is; the HTTP server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _pages(project: Project) -> tuple[str | None, ...]:
    """Return the addresses by which users and Label Studio reach the server."""
    return project.server_url, project.links.model_server, project.serve.public_url


def _debouncers(
    project: Project, listeners: Listeners
) -> tuple[Debouncer | None, Debouncer | None]:
    """Return the debouncers of annotations and of hard samples; None without a listener."""
    annotations = listeners.on_annotations and Debouncer(listeners.on_annotations)
    hard_samples = listeners.on_hard_samples and Debouncer(
        listeners.on_hard_samples, at_least=project.collect.hard_samples, seconds=0.0, quiet=0.0
    )
    return annotations, hard_samples


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """End what the server began, once no request is left."""
    host: Host = app.state.host
    announcer = Announcer(app.state.intake)
    try:
        yield
    finally:  # also when a second signal interrupts the shutdown
        announcer.close()
        for debouncer in (app.state.hard_samples, app.state.annotations):
            if debouncer is not None:
                debouncer.close()
        await to_thread.run_sync(host.close)


def _answer_fault(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of ours with the HTTP status of its class."""
    status = status_of(error) if isinstance(error, FlywheelError) else 500
    if status >= 500:
        _LOGGER.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"detail": str(error)}, status)


def _answer_disconnected(request: Request, error: Exception) -> JSONResponse:
    """Answer a caller who disconnected while sending; only the metrics see this response."""
    return JSONResponse(
        {"detail": f"The body of {request.url.path} broke off ({error!r}). Send it again."}, 400
    )


def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer any other error; Starlette logs its traceback after this."""
    message = (
        f"{request.url.path} failed: {error!r}. See the traceback in the server's log, and "
        "run flywheel check to test the task."
    )
    return JSONResponse({"detail": message}, 500)


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket ourselves, since uvicorn exits the process when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"port {port} of {host} is taken. Stop the program that uses it (flywheel down, if it "
                "is this project's server), or set another serve.port."
            ) from error
        raise SettingsError(
            f"serve.host = {host!r}, serve.port = {port} cannot be listened on: "
            f"{error.strerror}. Set an address of this machine and a free port above 1023."
        ) from error


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
