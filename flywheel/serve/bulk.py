"""What passes between another server and us over HTTP: predictions and feedback in bulk, and releases.

The same rows as `flywheel import` reads, and the same code. Sending a body again changes nothing, so
that a caller who heard no answer sends it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError
from flywheel.handover import keep_trying, manifest_of
from flywheel.intake import Kind, Placing, Reading, Row, Taken, json_row, pieces_of, read_rows, take
from flywheel.ledger import Ledger
from flywheel.ledger.intake import Arrived
from flywheel.ledger.releases import current_release, get_handover
from flywheel.project import Project
from flywheel.records import Release, Sample
from flywheel.serve.events import Debouncer
from flywheel.serve.log import durably
from flywheel.serve.requests import bulk_body, is_bulk

bulk = APIRouter()

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0
_MOST_LINES = 100_000
"""of a body; each costs time and memory for its reason, also one that holds nothing"""
_SHOWN = 100
"""rejected rows that an answer names"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """Where rows that come in are stored, and how they are read."""

    project: Project
    ledger: Ledger
    blobs: Blobs
    reads: Callable[[list[Sample]], object]
    """what raises for a payload that the task cannot read"""
    hard_samples: Debouncer | None
    """counts predictions of low confidence, of which enough start a run between nights"""

    def answer(self, kind: Kind, body: bytes) -> JSONResponse:
        """Store the rows of a body, and say what became of them.

        Raises:
            HTTPException: 413 for too many lines, before any is read.
            UnavailableError: they cannot be stored; those of earlier pieces may be.
        """
        if body.count(b"\n") > _MOST_LINES:
            raise HTTPException(
                413, f"The body has more than {_MOST_LINES:,} lines. Send fewer lines at once."
            )
        taken = self._take(kind, body)
        said = {
            "new": taken.num_new,
            "known": taken.num_known,
            "early": taken.num_early,
            "num_rejected": len(taken.rejected),
            "rejected": [
                {"row": one.place, "reason": one.reason} for one in taken.rejected[:_SHOWN]
            ],
        }
        if taken.num_new or taken.num_known or taken.num_early or not taken.rejected:
            return JSONResponse(said)
        first = taken.rejected[0]
        detail = f"No row can be used; row {first.place}: {first.reason}."
        return JSONResponse(said | {"detail": detail}, 422)

    def _take(self, kind: Kind, body: bytes) -> Taken:
        reading = Reading(now=datetime.now(UTC), is_timed=True)
        placing = Placing(
            project=self.project, roots=self.project.serve.payload_roots, reads=self.reads
        )
        num_low, taken = 0, Taken()
        for piece in pieces_of(read_rows(_rows(body), kind, reading, placing)):
            with durably(self.ledger) as connection:
                taken.add(take(connection, self.blobs, piece, kind))
            num_low += self._num_low(piece)
        if self.hard_samples is not None and taken.num_new:
            self.hard_samples.add(num_low)
        return taken

    def _num_low(self, piece: Sequence[object]) -> int:
        low = self.project.collect.low_confidence
        entries = (getattr(one, "entry", None) for one in piece)
        arrived = (one for one in entries if isinstance(one, Arrived) and one.has_confidence)
        return sum(one.entry.prediction.confidence < low for one in arrived)


@bulk.post("/predictions")
def _predictions(request: Request, body: Annotated[bytes, Depends(bulk_body)]) -> JSONResponse:
    """Store predictions that another server has made, a JSON object a line."""
    if not is_bulk(request):
        raise HTTPException(
            415,
            f"Content-Type is {request.headers.get('content-type', '')[:200]!r}. Send JSON Lines, one "
            "object a line, as application/jsonl.",
        )
    return intake_of(request).answer("predictions", body)


@bulk.get("/release")
def _release(request: Request) -> JSONResponse:
    """Report what is released: digests of its files, and how far it has been handed over."""
    release, artifact = _released(request)
    intake = intake_of(request)
    with intake.ledger.read() as connection:
        handover = get_handover(connection, release.number)
    now = datetime.now(UTC)
    return JSONResponse(
        manifest_of(intake.project, release, artifact)
        | {
            "artifact": handover.address if handover else None,
            "state": handover.state(now) if handover else None,
            "fault": handover.fault if handover else "",
        }
    )


@bulk.get("/release/artifact")
def _artifact(request: Request) -> Response:
    """Return the bytes of the released artifact, whose SHA-256 is the digest."""
    release, artifact = _released(request)
    kind = "application/x-tar" if artifact[257:262] == b"ustar" else "application/octet-stream"
    return Response(artifact, 200, {"ETag": f'"{release.checkpoint_digest}"'}, kind)


def _released(request: Request) -> tuple[Release, bytes]:
    intake = intake_of(request)
    with intake.ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        raise HTTPException(
            404, "Nothing is released yet. Run flywheel night or flywheel champion."
        )
    return release, intake.blobs.get(release.checkpoint_digest)


class Announcer:
    """Tries the hand-over of a release again, in the background, until its server reports it."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._ended = intake, threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        if intake.project.is_external:
            self._thread.start()

    def close(self) -> None:
        """End it; a try that is under way ends by itself."""
        self._ended.set()

    def _run(self) -> None:
        intake = self._intake
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                keep_trying(intake.project, intake.ledger, intake.blobs, lambda: datetime.now(UTC))
            except (FlywheelError, SQLAlchemyError, OSError) as error:
                _LOGGER.warning("the hand-over of the release waits: %s", error)


def intake_of(request: Request) -> Intake:
    """Where the rows of a request are stored."""
    intake: Intake = request.app.state.intake
    return intake


def _rows(body: bytes) -> Iterator[Row]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
            yield json_row(number, line)
