"""Request bodies as records, their limits, and the responses to invalid ones.

Bodies are read in asynchronous functions, so that one that is too large is rejected before all of
it has arrived.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, model_validator

from flywheel.records import FeedbackKind, Json, Sample, canonical

_MAX_MEDIA_TYPE_CHARACTERS = 100  # width of the ledger's column
_MAX_COMMAND_BYTES = 1_000_000
_MAX_CANARY_SAMPLES = 1000
_METADATA_HEADER = "X-Sample-Metadata"
_EXAMPLE = '{"session": "a7"}'

Body = TypeVar("Body", bound=BaseModel)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal; validated, since it becomes part of a path"""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeedbackBody(_Body):
    """Body of POST /feedback."""

    request_id: StrictStr
    kind: FeedbackKind
    value: Json
    """outcome: true or false; rating: a number in 0..1; correction: the right answer"""

    @model_validator(mode="after")
    def _value_fits_kind(self) -> FeedbackBody:
        if not _fits(self.kind, self.value):
            raise ValueError(
                f"{self.kind} has the value {self.value!r}; send true or false for an outcome, "
                "a number in 0..1 for a rating, the right answer as JSON for a correction"
            )
        return self


class ModelBody(_Body):
    """Body of POST /model."""

    digest: Digest
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """confidence below which its answers defer; None: never"""


class CanaryBody(_Body):
    """Body of POST /model/canary."""

    digest: Digest
    sample_ids: Annotated[list[Digest], Field(max_length=_MAX_CANARY_SAMPLES)]


class CanaryAnswer(_Body):
    """The answer of a candidate to one stored sample."""

    sample_id: str
    answer: Json
    confidence: float
    """0..1"""
    latency_ms: float
    """of this sample alone"""


async def payload_body(request: Request) -> bytes:
    """Return the body of a prediction request.

    Raises:
        HTTPException: 413 if it is longer than serve.max_payload_bytes.
    """
    return await _limited(request, _max_payload_bytes(request))


async def command_body(request: Request) -> bytes:
    """Return the body of a JSON command; a list of ids may be longer than any payload.

    Raises:
        HTTPException: 413 if it is too long.
    """
    return await _limited(request, max(_MAX_COMMAND_BYTES, _max_payload_bytes(request)))


def read_sample(request: Request, body: bytes) -> Sample:
    """Return the sample of a request.

    Raises:
        HTTPException: 415 without a media type, 422 without a payload or with invalid metadata.
    """
    media_type = request.headers.get("content-type", "").strip()
    if not 0 < len(media_type) <= _MAX_MEDIA_TYPE_CHARACTERS:
        raise HTTPException(
            415,
            f"Content-Type is {media_type[:200]!r}. Send the payload's media type, such as "
            f"image/png, in 1 to {_MAX_MEDIA_TYPE_CHARACTERS} characters.",
        )
    if not body:
        raise HTTPException(422, "The body has 0 bytes. Send the payload itself as the body.")
    header = request.headers.get(_METADATA_HEADER)
    return Sample.of(body, media_type, None if header is None else _metadata(header))


def read_command(request: Request, body: bytes, kind: type[Body]) -> Body:
    """Return the JSON body as a record of a kind.

    Raises:
        HTTPException: 415 if it is not sent as JSON, 422 naming every invalid field.
    """
    media_type = request.headers.get("content-type", "")
    # Browsers send other types across origins without a preflight request (CSRF).
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            415, f"Content-Type is {media_type[:200]!r}. Send JSON as application/json."
        )
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'body'} = {repr(fault['input'])[:200]}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise HTTPException(
            422, f"{'; '.join(faults)}. The known keys are {', '.join(kind.model_fields)}."
        ) from error


def _max_payload_bytes(request: Request) -> int:
    most: int = request.app.state.host.project.serve.max_payload_bytes
    return most


async def _limited(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(declared, most)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_large(f"more than {most}", most)
    return bytes(body)


def _metadata(header: str) -> dict[str, Json]:
    try:
        # Starlette decodes headers as latin-1; JSON is UTF-8.
        metadata = json.loads(header.encode("latin-1").decode())
        # No database column accepts half a surrogate pair, a NUL or a NaN.
        json.dumps(metadata, ensure_ascii=False).encode()
        is_storable = "\\u0000" not in canonical(metadata)
    except (ValueError, RecursionError) as error:
        raise _bad_metadata(header, str(error)) from error
    if not isinstance(metadata, dict) or not is_storable:
        raise _bad_metadata(header, "not an object, or a text in it holds a NUL")
    return metadata


def _bad_metadata(header: str, reason: str) -> HTTPException:
    return HTTPException(
        422,
        f"{_METADATA_HEADER} is {header[:200]!r}: {reason}. "
        f"Send a JSON object such as {_EXAMPLE}, or leave the header out.",
    )


def _too_large(size: str, most: int) -> HTTPException:
    return HTTPException(
        413,
        f"The body has {size} bytes, at most {most} are allowed. "
        "Send a smaller payload, or raise serve.max_payload_bytes.",
        headers={"Connection": "close"},  # the rest of the body is not read
    )


def _fits(kind: FeedbackKind, value: Json) -> bool:
    if kind is FeedbackKind.OUTCOME:
        return isinstance(value, bool)
    if kind is FeedbackKind.RATING:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= 1
    return value is not None and _is_json(value)


def _is_json(value: Json) -> bool:
    try:
        canonical(value)
    except ValueError:  # NaN and infinity, which Python's parser accepts
        return False
    return True
