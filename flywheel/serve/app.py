"""Puts the model server together: endpoints, faults as HTTP statuses, token, start and end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from flywheel.blobs import Blobs
from flywheel.errors import (
    FlywheelError,
    PayloadError,
    TaskError,
    UnavailableError,
    UnknownIdError,
)
from flywheel.ledger import Ledger
from flywheel.project import Project
from flywheel.serve.access import TokenGate, required_token
from flywheel.serve.events import Hints
from flywheel.serve.host import Host
from flywheel.serve.metrics import LedgerFigures, Measured
from flywheel.serve.notify import Listeners
from flywheel.serve.routes import router
from flywheel.serve.webhook import router as webhook_router
from flywheel.task import Task

_LOGGER = logging.getLogger(__name__)
_STATUS = {
    UnknownIdError: 404,
    PayloadError: 422,
    TaskError: 422,
    UnavailableError: 503,
}
_NOBODY = Listeners()
_MOST_THREADS = 256
_SPARE_THREADS = 8


def create_app(
    project: Project,
    task: Task,
    ledger: Ledger,
    blobs: Blobs,
    *,
    listeners: Listeners = _NOBODY,
    durable: bool = True,
) -> FastAPI:
    """The model server of a project, with the current release loaded.

    `durable=False` stores nothing and is for the benchmark.

    Raises:
        SettingsError: the host is not loopback and FLYWHEEL_SERVER_TOKEN is not set.
        UnknownIdError: the weights of the current release are gone.
        TaskError: they belong to another network than the task's.
    """
    token = required_token(project.serve.host)
    tell = listeners.on_hard_samples
    host = Host(project, task, ledger, blobs, on_hard_samples=tell, durable=durable)
    host.start(datetime.now(UTC))
    # No /docs: that page loads its scripts from the internet.
    app = FastAPI(title=project.name, docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.host = host
    app.state.hints = listeners.on_annotations and Hints(listeners.on_annotations)
    app.include_router(router)
    app.include_router(webhook_router)
    reports = project.state / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    app.mount("/reports", StaticFiles(directory=reports))
    app.add_exception_handler(FlywheelError, _answer_fault)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_surprise)
    if token is not None:
        app.add_middleware(TokenGate, token=token)
    app.add_middleware(Measured, meter=host.meter)  # around the gate: what it refuses counts too
    host.meter.registry.register(LedgerFigures(ledger, lambda: host.digest))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Requests wait in threads for their batch, so a full batch needs as many of them."""
    host: Host = app.state.host
    hints: Hints | None = app.state.hints
    limiter = to_thread.current_default_thread_limiter()
    wanted = min(_MOST_THREADS, host.project.serve.max_batch + _SPARE_THREADS)
    limiter.total_tokens = max(limiter.total_tokens, wanted)
    try:
        yield
    finally:  # also when a second signal cuts the end short
        host.close()
        if hints:
            hints.close()


def _answer_fault(request: Request, error: Exception) -> JSONResponse:
    """An error that we raised on purpose: its class says the status."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status >= 500:
        _LOGGER.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"detail": str(error)}, status)


def _answer_nobody(request: Request, error: Exception) -> JSONResponse:
    """The caller hung up in the middle of the body; nobody reads this."""
    return JSONResponse({"detail": f"{request.url.path}: the body broke off ({error!r})"}, 400)


def _answer_surprise(request: Request, error: Exception) -> JSONResponse:
    """Anything else; Starlette logs the traceback after this."""
    message = (
        f"{request.url.path} failed: {error!r}; the server's log has the traceback, "
        "and flywheel check tells whether the task is to blame"
    )
    return JSONResponse({"detail": message}, 500)
