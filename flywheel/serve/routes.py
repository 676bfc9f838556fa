"""The HTTP endpoints: each maps a request to a call of the host and the result to JSON.

They read bodies by themselves, within limits and before all has come, so that FastAPI cannot see them;
`describe` says in /openapi.json what they are, from the same classes that read them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

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


_WHY = {
    400: "The body is damaged, or the Host header is not a name of this server.",
    401: "The token is missing or wrong.",
    403: "A page of another site asks.",
    404: "No prediction, sample or model has this id.",
    408: "The body or the headers did not come in time.",
    413: "The body is too large, also once unpacked.",
    415: "The Content-Type or the Content-Encoding cannot be read.",
    422: "The body cannot be used; the detail says what to send.",
    500: "The model, or the code of the task, failed.",
    503: "No model serves, or nothing can be stored now. Send this again later.",
}
_EVERYWHERE = (400, 401, 500)
_BODIES = (403, 408, 413, 415, 422, 503)
_ERROR = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "description": "what is wrong, and what to do"}},
}
_BINARY = {"type": "string", "format": "binary"}
_ANSWER = {
    "type": "object",
    "required": ["request_id", "sample_id", "answer", "confidence", "defer", "model_digest"],
    "properties": {
        "request_id": {"type": "string", "description": "send feedback with it"},
        "sample_id": {"type": "string", "description": "SHA-256 of the payload"},
        "answer": {"description": "JSON, as the task makes it"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "defer": {"type": "boolean", "description": "use your fallback: the answer is unsure"},
        "model_digest": {"type": "string"},
        "latency_ms": {"type": "number"},
    },
}
_FAILED = {"allOf": [_ERROR, {"properties": {"status": {"type": "integer"}}}]}
_LINE = {
    "type": "string",
    "description": "JSON Lines: an object a line",
    "contentMediaType": "application/jsonl",
}
_SAMPLE_LINE = _LINE | {
    "description": "an object a line: input (text or JSON) or base64, media_type, metadata",
}
_MANY = {"type": "array", "items": {"anyOf": [_ANSWER, _FAILED]}, "description": "in order"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of the model server."""
    found: dict[str, Any] = get_openapi(title=app.title, version="1", routes=app.routes)
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            has_body = method == "post" and path != "/label-studio/events"
            operation.setdefault("responses", {}).pop("422", None)
            for status in (*_EVERYWHERE, *(_BODIES if has_body else ()), *_more(path)):
                operation["responses"][str(status)] = {
                    "description": _WHY[status],
                    "content": _json({"$ref": "#/components/schemas/Error"}),
                }
            if path in _REQUESTS and method == "post":
                operation["requestBody"] = {"required": True, "content": _REQUESTS[path]}
    predict = found["paths"]["/predict"]["post"]
    predict["parameters"] = [
        _header("X-Sample-Metadata", "a JSON object: scene, session, device"),
        _header("Idempotency-Key", "the same key and payload again get the same answer"),
        _header("X-Caller-Key", "a canary answers all requests with the same key with one model"),
        _header("Content-Encoding", "gzip or deflate"),
    ]
    predict["responses"]["200"] = {
        "description": "The answer; a list of answers and errors in order for many payloads.",
        "content": _json({"anyOf": [_ANSWER, _MANY]}),
    }
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = _ERROR
    return found


def _more(path: str) -> tuple[int, ...]:
    return (404,) if path in {"/feedback", "/model", "/model/canary"} else ()


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    return _json(kind.model_json_schema())


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


_REQUESTS: dict[str, dict[str, Any]] = {
    "/predict": {
        "*/*": {"schema": _BINARY},
        "application/jsonl": {"schema": _SAMPLE_LINE},
        "multipart/form-data": {
            "schema": {"type": "object", "additionalProperties": _BINARY},
        },
    },
    "/predictions": {"application/jsonl": {"schema": _LINE}},
    "/feedback": _schema_of(FeedbackBody) | {"application/jsonl": {"schema": _LINE}},
    "/model": _schema_of(ModelBody),
    "/model/canary": _schema_of(CanaryBody),
}
