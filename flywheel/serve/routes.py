"""The endpoints: one function each, from a request to the host and back to JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from flywheel.serve.host import Host
from flywheel.serve.page import index
from flywheel.serve.requests import command_body, payload_body, read_command, read_sample
from flywheel.serve.wire import CanaryAnswer, CanaryBody, FeedbackBody, ModelBody

router = APIRouter()

_Payload = Annotated[bytes, Depends(payload_body)]
_Command = Annotated[bytes, Depends(command_body)]


@router.post("/predict")
def _predict(request: Request, body: _Payload) -> JSONResponse:
    """Answer the payload in the body."""
    sample = read_sample(request, body)
    answered = _host(request).predict(sample, _now())
    prediction = answered.prediction
    return JSONResponse(
        {
            "request_id": prediction.id,
            "sample_id": prediction.sample_id,
            "answer": prediction.answer,
            "confidence": prediction.confidence,
            "defer": answered.defer,
            "model_digest": prediction.model_digest,
            "latency_ms": prediction.latency_ms,
        }
    )


@router.post("/feedback")
def _feedback(request: Request, body: _Command) -> JSONResponse:
    """Store what the world said back about a prediction."""
    said = read_command(request, body, FeedbackBody)
    stored = _host(request).feedback(said.request_id, said.kind, said.value, _now())
    return JSONResponse({"id": stored.id})


@router.get("/health")
def _health(request: Request) -> JSONResponse:
    """Say that the server lives, whose it is, and what serves."""
    host = _host(request)
    return JSONResponse({"project": host.project.name, "digest": host.digest})


@router.get("/model")
def _model(request: Request) -> JSONResponse:
    """Say which model serves, and of which project."""
    host = _host(request)
    served = host.served()
    return JSONResponse(
        {
            "project": host.project.name,
            "digest": served and served.digest,
            "threshold": served and served.threshold,
            "release": served and served.release,
            "loaded_at": served and served.loaded_at.isoformat(),
        }
    )


@router.post("/model")
def _activate(request: Request, body: _Command) -> JSONResponse:
    """Serve the weights of a digest, with their threshold."""
    wanted = read_command(request, body, ModelBody)
    host = _host(request)
    host.activate(wanted.digest, wanted.threshold, _now())
    served = host.served()  # asked, not repeated: another command may have come between
    return JSONResponse(
        {"digest": served and served.digest, "threshold": served and served.threshold}
    )


@router.post("/model/canary")
def _canary(request: Request, body: _Command) -> list[CanaryAnswer]:
    """Ask a candidate about stored samples without serving it."""
    wanted = read_command(request, body, CanaryBody)
    return _host(request).shelf.canary(wanted.digest, wanted.sample_ids)


@router.get("/metrics")
def _metrics(request: Request) -> Response:
    """Tell Prometheus the figures."""
    return Response(_host(request).meter.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/")
def _index(request: Request) -> HTMLResponse:
    """Show a person what serves, and the way to the reports."""
    host = _host(request)
    return HTMLResponse(index(host.project.name, host.served(), host.project.state / "reports"))


def _host(request: Request) -> Host:
    host: Host = request.app.state.host
    return host


def _now() -> datetime:
    return datetime.now(UTC)
