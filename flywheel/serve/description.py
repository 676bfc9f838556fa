"""What /openapi.json says: the bodies, headers and errors of each endpoint.

The endpoints read bodies by themselves, within limits and before all has come, so that FastAPI cannot
see them; here they are described, from the same classes that read them.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from flywheel.serve.requests import CanaryBody, FeedbackBody, ModelBody

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
