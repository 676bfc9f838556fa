"""The HTTP endpoints: each maps a request to a call of the host and the result to JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from flywheel.serve.access import EVENTS_PATH
from flywheel.serve.bulk import intake_of
from flywheel.serve.events import Debouncer, check_event
from flywheel.serve.host import Host
from flywheel.serve.predicting import predict
from flywheel.serve.requests import (
    CanaryAnswer,
    CanaryBody,
    FeedbackBody,
    ModelBody,
    command_body,
    feedback_body,
    is_bulk,
    read_command,
)

router = APIRouter()

_Feedback = Annotated[bytes, Depends(feedback_body)]
_Command = Annotated[bytes, Depends(command_body)]


router.post("/predict")(predict)


@router.post("/feedback")
def _feedback(request: Request, body: _Feedback) -> JSONResponse:
    """Store feedback on a prediction; or on many, as JSON Lines."""
    if is_bulk(request):
        _host(request).flush()
        return intake_of(request).answer("feedback", body)
    given = read_command(request, body, FeedbackBody)
    stored = _host(request).feedback(
        given.request_id, given.kind, given.value, _now(), source=given.source
    )
    return JSONResponse({"id": stored.id})


@router.get("/health")
@router.get("/healthz")
def _health(request: Request) -> JSONResponse:
    """Report the project, its id and the digest of the serving model; needs no token."""
    host = _host(request)
    return JSONResponse({"project": host.project.name, "id": host.id, "digest": host.digest})


@router.get("/readyz")
def _ready(request: Request) -> JSONResponse:
    """Report whether the server can answer and store now; needs no token."""
    faults = list(request.app.state.readiness.faults())
    host = _host(request)
    if host.digest is None and not host.project.is_external:
        why = "no release can be served, GET /model says why"
        faults.insert(0, why if host.fault else "no model is released yet")
    return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)


@router.get("/model")
def _model(request: Request) -> JSONResponse:
    """Report the serving model and the project."""
    host = _host(request)
    served = host.served()
    return JSONResponse(
        {
            "project": host.project.name,
            "digest": served and served.digest,
            "threshold": served and served.threshold,
            "release": served and served.release,
            "loaded_at": served and served.loaded_at.isoformat(),
            "fault": host.fault,
            "note": served.note if served else "",
        }
    )


@router.post("/model")
def _activate(request: Request, body: _Command) -> JSONResponse:
    """Serve the weights of a digest, with their threshold."""
    wanted = read_command(request, body, ModelBody)
    host = _host(request)
    host.activate(wanted.digest, wanted.threshold, _now())
    served = host.served()  # read back: another request may have activated another model
    return JSONResponse(
        {"digest": served and served.digest, "threshold": served and served.threshold}
    )


@router.post("/model/canary")
def _canary(request: Request, body: _Command) -> list[CanaryAnswer]:
    """Ask a candidate about stored samples without serving it."""
    wanted = read_command(request, body, CanaryBody)
    return _host(request).canary(wanted.digest, wanted.sample_ids)


@router.post(EVENTS_PATH)
async def _take_event(request: Request) -> Response:
    """Count an event of Label Studio.

    Label Studio sends it within the annotator's request and waits up to a second, so this runs in
    the event loop: all threads may be waiting for the model.
    """
    check_event(request)
    annotations: Debouncer | None = request.app.state.annotations
    if annotations is not None:
        annotations.add()
    return Response(status_code=204)


@router.get("/metrics")
def _metrics(request: Request) -> Response:
    """Return the metrics for Prometheus."""
    return Response(_host(request).meter.text(), media_type=CONTENT_TYPE_LATEST)


def _host(request: Request) -> Host:
    host: Host = request.app.state.host
    return host


def _now() -> datetime:
    return datetime.now(UTC)
