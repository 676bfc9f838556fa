"""Request bodies, read within limits and as records, and the responses to invalid ones.

The limits are of each body, also once unpacked, and of all that are held together. Bodies are read in
asynchronous functions, so that one that is too large is rejected before all of it has arrived.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import HTTPException, Request
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from flywheel.errors import (
    FlywheelError,
    PayloadError,
    TaskError,
    UnavailableError,
    UnknownIdError,
)
from flywheel.records import FeedbackKind, Json, Sample, canonical, is_storable

_MOST_COMMAND_BYTES = 262_144
_MOST_FEEDBACK_BYTES = 1_000_000
_LEAST_BULK_BYTES = 16_000_000
_LINES = frozenset(
    f"application/{name}" for name in ("jsonl", "x-jsonl", "jsonlines", "x-ndjson", "ndjson")
)
_MOST_SECONDS = 120.0
"""until all of a body has come; who sends a byte a minute would hold a connection for ever"""
_HELD_PAYLOADS = 20
"""of the largest size that all requests may hold together; small ones number thousands"""
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""content encoding -> window bits of zlib"""


class Held:
    """The bytes of bodies that are held now; used in the event loop only."""

    def __init__(self, max_payload_bytes: int) -> None:
        self.most = _HELD_PAYLOADS * max(max_payload_bytes, _MOST_FEEDBACK_BYTES)
        self.size = 0


def payload_body(request: Request) -> AbstractAsyncContextManager[bytes]:
    """Return the body of a prediction request, unpacked; it counts as held within the block.

    Raises:
        HTTPException: 413 if it is longer than serve.max_payload_bytes, 415 for an encoding that
            is not known, 400 for one that is damaged, 503 while others hold too many bytes.
    """
    most: int = request.app.state.host.project.serve.max_payload_bytes
    return _held(request, most, "Send a smaller payload, or raise serve.max_payload_bytes.")


def many_body(request: Request) -> AbstractAsyncContextManager[bytes]:
    """Return a body of many payloads; errors as of `payload_body`."""
    return _held(request, _most_bulk(request), "Send fewer payloads at once.")


async def feedback_body(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a feedback request; errors as of `payload_body`."""
    most, advice = _MOST_FEEDBACK_BYTES, "Send a smaller correction."
    if is_bulk(request):
        most, advice = _most_bulk(request), "Send fewer lines at once."
    async with _held(request, most, advice) as body:
        yield body


async def bulk_body(request: Request) -> AsyncIterator[bytes]:
    """Yield a body of JSON Lines; errors as of `payload_body`."""
    async with _held(request, _most_bulk(request), "Send fewer lines at once.") as body:
        yield body


def is_bulk(request: Request) -> bool:
    """Whether a body says that it is JSON Lines, a row a line."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in _LINES


def _most_bulk(request: Request) -> int:
    host = request.app.state.host
    return max(_LEAST_BULK_BYTES, 4 * int(host.project.serve.max_payload_bytes))


async def command_body(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a command; errors as of `payload_body`."""
    async with _held(request, _MOST_COMMAND_BYTES, "Ask about fewer samples.") as body:
        yield body


@asynccontextmanager
async def _held(request: Request, most: int, advice: str) -> AsyncIterator[bytes]:
    """The body, counted until the response is sent."""
    held: Held = request.app.state.held
    body = bytearray()
    counted = 0
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            async for piece in _pieces(request, most, advice):
                body += piece
                counted += len(piece)
                held.size += len(piece)
                if held.size > held.most:
                    raise HTTPException(
                        503,
                        f"The server holds {held.size:,} bytes of requests, at most {held.most:,} are "
                        "allowed. Send this again in a second.",
                        headers={"Retry-After": "1", "Connection": "close"},
                    )
    except TimeoutError as error:
        raise HTTPException(
            408,
            f"The body did not come within {_MOST_SECONDS:g} s. Send it faster, or a smaller one.",
            headers={"Connection": "close"},
        ) from error
    else:
        yield bytes(body)
    finally:
        held.size -= counted


async def _pieces(request: Request, most: int, advice: str) -> AsyncIterator[bytes]:
    """Yield the parts of the body, unpacked; together they are never longer than `most`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _too_large(f"{declared[:20]} bytes", most, advice)
    encoding = _encoding(request)
    unpacker = zlib.decompressobj(_WINDOWS[encoding]) if encoding else None
    num_sent = num_unpacked = 0
    async for chunk in request.stream():
        num_sent += len(chunk)
        # One byte more than is left, so that a bomb is noticed without being unpacked.
        piece = chunk
        if unpacker is not None:
            piece = _unpacked(unpacker, chunk, most - num_unpacked + 1, encoding)
        num_unpacked += len(piece)
        if max(num_sent, num_unpacked) > most:
            what = f"more than {most} bytes{' once unpacked' if encoding else ''}"
            raise _too_large(what, most, advice)
        yield piece
    if unpacker is not None and not unpacker.eof:
        raise _damaged(encoding, "it ends too early")


def _unpacked(unpacker: zlib._Decompress, chunk: bytes, most: int, encoding: str) -> bytes:
    try:
        piece = unpacker.decompress(chunk, most)
    except zlib.error as error:
        raise _damaged(encoding, str(error)) from error
    if unpacker.unused_data:
        raise _damaged(encoding, "something follows its end")
    return piece


def _encoding(request: Request) -> str:
    """The content encoding of a request; empty when there is none."""
    given = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    names = [name.strip() for name in given if name.strip() not in {"", "identity"}]
    if len(names) > 1 or (names and names[0] not in _WINDOWS):
        raise HTTPException(
            415,
            f"Content-Encoding is {', '.join(names)[:200]!r}. Send the body as it is, or packed once "
            "as gzip or deflate.",
            headers={"Accept-Encoding": "gzip, deflate", "Connection": "close"},
        )
    return names[0] if names else ""


def _damaged(encoding: str, reason: str) -> HTTPException:
    return HTTPException(
        400,
        f"The body is no {encoding}: {reason}. Send it as it is, or packed once.",
        headers={"Connection": "close"},
    )


def _too_large(size: str, most: int, advice: str) -> HTTPException:
    return HTTPException(
        413,
        f"The body has {size}, at most {most} are allowed. {advice}",
        headers={"Connection": "close"},  # the rest of the body is not read
    )


_FORMS = ("multipart/", "application/x-www-form-urlencoded")  # a payload in the packing of others
_MAX_MEDIA_TYPE_CHARACTERS = 100  # width of the ledger's column
_MAX_CANARY_SAMPLES = 1000
_SHOWN_FAULTS = 10
METADATA_HEADER = "X-Sample-Metadata"
_EXAMPLE = '{"session": "a7"}'

_STATUS = {
    UnknownIdError: 404,
    PayloadError: 422,
    TaskError: 422,
    UnavailableError: 503,
}

Body = TypeVar("Body", bound=BaseModel)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal; validated, since it becomes part of a path"""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeedbackBody(_Body):
    """Body of POST /feedback."""

    request_id: Annotated[
        StrictStr,
        Field(
            max_length=200,
            pattern=r"^[^\x00]*$",
            validation_alias=AliasChoices("request_id", "id"),
        ),
    ]
    """of the prediction; `id`, as in bulk, is the same"""
    kind: FeedbackKind
    value: Json
    """outcome: true or false; rating: a number in 0..1; correction: the right answer"""
    source: Annotated[StrictStr, Field(max_length=100, pattern=r"^[^\x00-\x1f]*$")] = ""
    """the device, service or person that it comes from: it is believed as far as it was right"""

    @model_validator(mode="after")
    def _value_fits_kind(self) -> FeedbackBody:
        if not _fits(self.kind, self.value):
            raise ValueError(
                f"{self.kind} has the value {repr(self.value)[:200]}; send true or false for an outcome, "
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


def read_sample(request: Request, body: bytes) -> Sample:
    """Return the sample of a request; errors as of `sample_of`."""
    media_type = request.headers.get("content-type", "").strip()
    return sample_of(body, media_type, request.headers.get(METADATA_HEADER))


def sample_of(payload: bytes, media_type: Json, metadata: str | None) -> Sample:
    """Return the sample of a payload and what was sent with it.

    Raises:
        HTTPException: 415 without a media type, 422 without a payload or with invalid metadata.
    """
    is_form = str(media_type).lower().startswith(_FORMS)
    if (
        not isinstance(media_type, str)
        or is_form
        or not 0 < len(media_type) <= _MAX_MEDIA_TYPE_CHARACTERS
    ):
        raise HTTPException(
            415,
            f"Content-Type is {str(media_type)[:200]!r}. Send the payload itself as the body, and its media "
            f"type, such as image/png, in 1 to {_MAX_MEDIA_TYPE_CHARACTERS} characters.",
        )
    if not payload:
        raise HTTPException(422, "The body has 0 bytes. Send the payload itself as the body.")
    return Sample.of(payload, media_type, None if metadata is None else _metadata(metadata))


def status_of(error: FlywheelError) -> int:
    """Return the HTTP status of an error of ours."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)


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
    _refuse_many_keys(body, kind)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'body'} = {repr(fault['input'])[:200]}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_context=False)
        ]
        raise _bad_command(faults, len(faults), kind) from error


def _refuse_many_keys(body: bytes, kind: type[BaseModel]) -> None:
    """Refuse an object with many unknown keys without making a fault of each."""
    try:
        found = from_json(body)
    except ValueError:  # the fault is described when it is read as a record
        return
    if not isinstance(found, dict):
        return
    unknown = [key for key in found if key not in kind.model_fields]
    if len(unknown) > _SHOWN_FAULTS:
        faults = [f"{key[:200]!r} is not known" for key in unknown[:_SHOWN_FAULTS]]
        raise _bad_command(faults, len(unknown), kind)


def _bad_command(faults: list[str], number: int, kind: type[BaseModel]) -> HTTPException:
    more = f"; and {number - _SHOWN_FAULTS:,} more" if number > _SHOWN_FAULTS else ""
    return HTTPException(
        422,
        f"{'; '.join(faults[:_SHOWN_FAULTS])}{more}. "
        f"The known keys are {', '.join(kind.model_fields)}.",
    )


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
        f"{METADATA_HEADER} is {header[:200]!r}: {reason}. "
        f"Send a JSON object such as {_EXAMPLE}, or leave the header out.",
    )


def _fits(kind: FeedbackKind, value: Json) -> bool:
    if kind is FeedbackKind.OUTCOME:
        return isinstance(value, bool)
    if kind is FeedbackKind.RATING:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= 1
    return value is not None and is_storable(value)
