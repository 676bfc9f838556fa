"""POST /predict: one payload, or many as JSON Lines or multipart; each at most once for a key.

The answers to many are in the order of the items. One that cannot be answered has the status and the
detail that it would have had alone, and fails no other.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic_core import from_json

from flywheel.errors import FlywheelError, PayloadError, UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import get_prediction
from flywheel.records import Json, Sample, canonical
from flywheel.serve.answers import Answered
from flywheel.serve.host import Host
from flywheel.serve.requests import (
    METADATA_HEADER,
    is_bulk,
    many_body,
    payload_body,
    read_sample,
    sample_of,
    status_of,
)

KEY_HEADER = "Idempotency-Key"
CALLER_HEADER = "X-Caller-Key"
_MOST_CALLER_CHARACTERS = 200
_MOST_ITEMS = 1_000
_MOST_KEY_CHARACTERS = 200
_MOST_KNOWN = 50_000
"""newest answers by key that are in memory; those before them are in the ledger"""
_FIELDS = ("input", "base64", "media_type", "metadata")


class Repeats:
    """Answers by idempotency key, each given once; used in the event loop only."""

    def __init__(self, host: Host, ledger: Ledger) -> None:
        self._host, self._ledger = host, ledger
        self._known: OrderedDict[str, asyncio.Future[Answered]] = OrderedDict()

    async def answer(self, sample: Sample, key: str, caller: str) -> Answered:
        """Return the answer that the key has had, else ask the model; without a key always ask.

        Raises:
            PayloadError: the key was used with another payload, or the task cannot read this one.
            UnavailableError: as of `Host.predict`.
        """
        now = datetime.now(UTC)
        if not key:
            return await self._host.predict(sample, now, caller=caller)
        name = hashlib.sha256(f"idempotency key {key}".encode()).hexdigest()[:32]
        given = self._known.get(name)
        if given is None:
            ask = partial(self._host.predict, sample, now, request_id=name, caller=caller)
            given = self._known[name] = asyncio.ensure_future(self._once(name, sample, ask))
            given.add_done_callback(partial(self._forget_failed, name))
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        answered = await asyncio.shield(given)  # a caller who hangs up ends it for no other
        if answered.prediction.sample_id != sample.id:
            raise PayloadError(
                f"{KEY_HEADER} {key!r} was used with another payload. Send each payload with a key of "
                "its own, and the same key only to repeat a request."
            )
        return answered

    async def _once(
        self, name: str, sample: Sample, ask: Callable[[], Awaitable[Answered]]
    ) -> Answered:
        return await to_thread.run_sync(self._stored, name, sample) or await ask()

    def _stored(self, name: str, sample: Sample) -> Answered | None:
        """The answer of an earlier process; None: there is none."""
        try:
            with self._ledger.read() as connection:
                prediction = get_prediction(connection, name)
        except UnknownIdError:
            return None
        return self._host.answered_again(sample, prediction)

    def _forget_failed(self, name: str, given: asyncio.Future[Answered]) -> None:
        if given.cancelled() or given.exception() is not None:
            self._known.pop(name, None)


async def predict(request: Request) -> JSONResponse:
    """Answer the payload in the body, or each of many in JSON Lines or multipart."""
    repeats: Repeats = request.app.state.repeats
    key, caller = _key(request), request.headers.get(CALLER_HEADER, "")[:_MOST_CALLER_CHARACTERS]
    media_type = request.headers.get("content-type", "")
    is_form = media_type.strip().lower().startswith("multipart/form-data")
    if not is_form and not is_bulk(request):
        async with payload_body(request) as body:
            answered = await repeats.answer(read_sample(request, body), key, caller)
            return JSONResponse(_said(answered))
    async with many_body(request) as body:
        mark = b"--" + _boundary(media_type) if is_form else b"\n"
        if body.count(mark) > _MOST_ITEMS + 1:  # before each becomes an object
            raise HTTPException(
                422, f"The body has more than {_MOST_ITEMS:,} payloads. Send fewer at once."
            )
        samples = list(_parts(body, media_type) if is_form else _lines(body))
        if not 0 < len(samples) <= _MOST_ITEMS:
            raise HTTPException(
                422, f"The body has {len(samples):,} payloads. Send 1 to {_MOST_ITEMS:,} at once."
            )
        most = request.app.state.host.project.serve.max_payload_bytes
        answers = await asyncio.gather(
            *(
                _answer_item(repeats, make, most, f"{key}/{number}" if key else "", caller)
                for number, make in enumerate(samples)
            )
        )
    statuses = [int(answer.get("status", 200)) for answer in answers]
    return JSONResponse(answers, 200 if 200 in statuses else statuses[0])


async def _answer_item(
    repeats: Repeats, make: Callable[[], Sample], most: int, key: str, caller: str
) -> dict[str, Any]:
    try:
        return _said(await repeats.answer(_within(make(), most), key, caller))
    except HTTPException as error:
        return {"status": error.status_code, "detail": error.detail}
    except FlywheelError as error:
        return {"status": status_of(error), "detail": str(error)}


def _within(sample: Sample, most: int) -> Sample:
    size = len(sample.payload)
    if size > most:
        raise HTTPException(
            413,
            f"The payload has {size:,} bytes, at most {most:,} are allowed. Send a smaller one, or raise "
            "serve.max_payload_bytes.",
        )
    return sample


def _said(answered: Answered) -> dict[str, Json]:
    prediction = answered.prediction
    return {
        "request_id": prediction.id,
        "sample_id": prediction.sample_id,
        "answer": prediction.answer,
        "confidence": prediction.confidence,
        "defer": answered.defer,
        "model_digest": prediction.model_digest,
        "latency_ms": prediction.latency_ms,
    }


def _key(request: Request) -> str:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return ""
    if not 0 < len(key) <= _MOST_KEY_CHARACTERS:
        raise HTTPException(
            422,
            f"{KEY_HEADER} has {len(key)} characters. Send 1 to {_MOST_KEY_CHARACTERS}, such as a "
            "UUID, or leave the header out.",
        )
    return key


def _lines(body: bytes) -> Iterator[Callable[[], Sample]]:
    for line in body.split(b"\n"):
        if line.strip():
            yield partial(_sample_of_line, line)


def _sample_of_line(line: bytes) -> Sample:
    try:
        row = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(
            422, f"The line is no JSON: {error}. Send one object a line."
        ) from error
    if not isinstance(row, dict) or not set(row) <= set(_FIELDS):
        raise HTTPException(
            422, f"The line is no object with {', '.join(_FIELDS)}. Send those only."
        )
    payload, media_type = _payload(row)
    return sample_of(payload, row.get("media_type", media_type), canonical(row.get("metadata", {})))


def _payload(row: Mapping[str, Any]) -> tuple[bytes, str]:
    if ("input" in row) == ("base64" in row):
        raise HTTPException(422, "The line has both or neither of input, base64. Send one of them.")
    if "base64" in row:
        try:
            return base64.b64decode(row["base64"], validate=True), ""
        except (binascii.Error, TypeError, ValueError) as error:
            raise HTTPException(422, f"base64 is no base64: {error}. Send it padded.") from error
    value = row["input"]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass"), "text/plain"
    return canonical(value).encode(), "application/json"


def _parts(body: bytes, media_type: str) -> Sequence[Callable[[], Sample]]:
    """The parts of a form, each a payload with its Content-Type."""
    boundary = _boundary(media_type)
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not boundary or first.strip() or not parts or not parts[-1].startswith(b"--"):
        raise HTTPException(
            400,
            "The body is no multipart/form-data with the boundary of its Content-Type. Send it whole.",
        )
    return [partial(_sample_of_part, part) for part in parts[:-1]]


def _boundary(media_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = media_type
    return str(message.get_param("boundary") or "").encode("latin-1", "replace")


def _sample_of_part(part: bytes) -> Sample:
    head, _, payload = part.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = dict[str, str]()
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return sample_of(payload, headers.get("content-type", ""), headers.get(METADATA_HEADER.lower()))
