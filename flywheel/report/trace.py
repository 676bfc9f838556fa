"""The whole life of one sample in time order, from its first prediction to the release.

Every query uses an index; of the dataset versions since the sample had its first label, so many are
read as it takes to find where it entered, changed and left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnknownIdError
from flywheel.faults import UNREADABLE
from flywheel.ledger.history import Life, Uses, read_life, uses_of, versions_since
from flywheel.ledger.samples import find_sample, load_samples
from flywheel.loop import Loop
from flywheel.media import describe
from flywheel.records import IMPORTED, SENSOR, FailureState, Json, Purpose, Share, Split, canonical
from flywheel.report.kit import text
from flywheel.report.night.facts import thin_out

_READ = 40
"""dataset versions that are read first, evenly spaced"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to a sample."""

    at: datetime
    what: str
    """a word of the loop: prediction, feedback, failure, batch, label, release"""
    detail: str
    links: tuple[tuple[str, str], ...] = ()
    """words and address of pages about it"""


class _Place(NamedTuple):
    """A dataset version that holds the sample."""

    version_id: str
    split: Split
    answer: Json


def trace(loop: Loop, key: str) -> list[Event]:
    """Return what happened to a sample, found by its id, a prefix of it, or a request id.

    A dataset version is an event only if the sample enters, changes or leaves in it.

    Raises:
        UnknownIdError: no sample or request has this id.
        UserError: several samples have this prefix.
    """
    with loop.ledger.read() as connection:
        life = read_life(connection, find_sample(connection, key))
        versions = _places(connection, loop.blobs, life)
        held = [place for _, _, place in versions if place is not None]
        trained = {place.version_id for place in held if place.split is Split.TRAIN}
        tested = {place.version_id for place in held if place.split is Split.TEST}
        uses = uses_of(connection, trained, tested)
        shown = _shown(connection, loop, life.sample.id)
    events = [
        *_served(life, shown),
        *_failed(life),
        *_chosen(life),
        *(_posted(loop, row) for row in life.labeling_tasks),
        *_labeled(life),
        *_versioned(versions),
        *_used(uses, tested),
    ]
    return sorted(map(_one_line, events), key=lambda event: event.at)  # equal times stay in order


def _one_line(event: Event) -> Event:
    """Put the detail on one line: notes and answers come from outside and may contain anything."""
    return replace(event, detail=" ".join(event.detail.split()))


def _shown(connection: Connection, loop: Loop, sample_id: str) -> str:
    """What annotators see of the sample, or why it cannot be shown."""
    try:
        (sample,) = load_samples(connection, loop.blobs, [sample_id])
        return describe(loop.task.labeling.data(sample))
    except (*UNREADABLE, FlywheelError, OSError) as error:
        return f"not shown: {error}"


def _served(life: Life, shown: str) -> Iterator[Event]:
    sample = life.sample
    detail = f"{sample.id}, {sample.media_type}, group {sample.group}, {sample.split} split"
    yield Event(at=sample.created_at, what="sample", detail=f"{detail}; {shown}")
    for row in life.predictions:
        said = f"{text.answer(row.answer)} with confidence {text.number(row.confidence)}"
        by = f"model {text.digest(row.model_digest)}, request {row.id}"
        yield Event(at=row.created_at, what="prediction", detail=f"{said}; {by}")
    for row in life.feedback:
        said = f"{row.kind} {text.answer(row.value)} on request {row.prediction_id}"
        yield Event(at=row.created_at, what="feedback", detail=said)


def _failed(life: Life) -> Iterator[Event]:
    signals = life.failure.signals if life.failure is not None else {}
    why = ", ".join(f"{name.replace('_', ' ')} {signals[name]:.2f}" for name in sorted(signals))
    for row in life.transitions:
        night = "" if row.night is None else f" in night {row.night}"
        reason = f"; {why}" if row.state == FailureState.SEEN.value and why else ""
        yield Event(at=row.at, what="failure", detail=f"{row.state}{night}{reason}")


def _chosen(life: Life) -> Iterator[Event]:
    row = life.choice
    if row is None:
        return
    detail = (
        f"{row.share} share of batch {text.digest(row.batch_id)}, night {row.night}: {row.reason}"
    )
    if row.share == Share.PROBABILITY.value:
        odds = text.number(row.inclusion_probability)
        new = f"{row.population} samples" if row.population else "earlier production"
        detail += f"; inclusion probability {odds} of {new}"
    yield Event(at=row.created_at, what="batch", detail=detail)


def _posted(loop: Loop, row: Row[Any]) -> Event:
    links: tuple[tuple[str, str], ...] = ()
    if row.sent_at is None:
        detail = f"{row.state}, not sent"
    else:
        detail = f"{row.state}; number {row.external_id} in project {row.external_project}"
        page = f"{loop.project.label_studio_page}/projects/{row.external_project}/data"
        links = (("open in Label Studio", f"{page}?task={row.external_id}"),)
    note = f"; {row.note}" if row.note else ""
    why = "" if row.purpose == Purpose.CHOICE.value else f"{row.purpose}: "
    at = row.sent_at or row.created_at
    return Event(at=at, what="labeling task", detail=f"{why}{detail}{note}", links=links)


def _labeled(life: Life) -> Iterator[Event]:
    for row in life.annotations:
        said = "skipped" if row.skipped else text.answer(row.answer)
        if row.refused is not None:
            said = f"refused: {row.refused}"
        yield Event(at=row.updated_at, what="annotation", detail=f"{row.annotator}: {said}")
        if row.deleted_at is not None:
            detail = f"{row.annotator}: deleted"
            yield Event(at=row.deleted_at, what="annotation", detail=detail)
    for row in life.labels:
        given = f"{row.num_annotations} annotations, reliability {row.reliability:.2f}"
        given = {"start": "start data", IMPORTED: "imported from a file"}.get(row.source, given)
        given = f"a sensor, reliability {row.reliability:.2f}" if row.source == SENSOR else given
        detail = f"{text.answer(row.answer)}; {given}" if row.answer is not None else "withdrawn"
        yield Event(at=row.created_at, what="label", detail=detail)


def _places(
    connection: Connection, blobs: Blobs, life: Life
) -> list[tuple[str, datetime, _Place | None]]:
    """Return every version since the first label, oldest first, and the sample's row in it.

    Of many versions some are read; between two that differ, halves are, until the change is found. What
    changed and was taken back between two that agree is not seen, nor is a version that is gone.
    """
    if not life.labels:
        return []
    versions = versions_since(connection, life.labels[0].created_at)[::-1]
    found: dict[int, _Place | None] = {}
    gone = set[int]()

    def read(number: int) -> None:
        row = versions[number]
        try:
            found[number] = _place(blobs.get(row.id), row, life.sample.id)
        except UnknownIdError:
            found[number] = None
            gone.add(number)

    def fill(low: int, high: int) -> None:
        if high - low < 2:
            return
        if not {low, high} & gone and _content(found[low]) == _content(found[high]):
            for number in range(low + 1, high):
                place = found[low]
                found[number] = place and place._replace(version_id=versions[number].id)
            return
        middle = (low + high) // 2
        read(middle)
        fill(low, middle)
        fill(middle, high)

    marks = thin_out(range(len(versions)), _READ)
    for number in marks:
        read(number)
    for low, high in pairwise(marks):
        fill(low, high)
    return [
        (row.id, row.created_at, found[number])
        for number, row in enumerate(versions)
        if number not in gone
    ]


def _content(place: _Place | None) -> tuple[Split, str] | None:
    return (place.split, canonical(place.answer)) if place is not None else None


def _place(manifest: bytes, version: Row[Any], sample_id: str) -> _Place | None:
    """Find the sample's row in a manifest without parsing the others, which may be many."""
    key = f'"sample_id":"{sample_id}"'.encode()
    at = manifest.find(key)
    while at >= 0:
        end = manifest.find(b"\n", at)
        row = json.loads(manifest[manifest.rfind(b"\n", 0, at) + 1 : end])
        if row["sample_id"] == sample_id:  # an answer may contain the same text
            return _Place(version.id, Split(row["split"]), row["answer"])
        at = manifest.find(key, end)
    return None


def _versioned(versions: Iterable[tuple[str, datetime, _Place | None]]) -> Iterator[Event]:
    before: tuple[Split, str] | None = None
    newest: datetime | None = None
    for version_id, made_at, place in versions:
        # When labels revert to an earlier state, that older version is used again.
        newest = made_at if newest is None else max(newest, made_at)
        now = _content(place)
        if now != before:
            inside = f"in {text.digest(version_id)}"
            said = f"no longer {inside}"
            if place is not None:
                said = f"{inside}: {place.split.value}, {text.answer(place.answer)}"
            yield Event(at=newest, what="dataset version", detail=said)
        before = now


def _used(uses: Uses, tested: set[str]) -> Iterator[Event]:
    for row in uses.checkpoints:
        detail = f"{text.digest(row.digest)} trained on {text.digest(row.dataset_id)}"
        yield Event(at=row.created_at, what="checkpoint", detail=detail)
    for row in uses.decisions:
        part = "tested" if row.dataset_id in tested else "trained"
        detail = (
            f"{row.verdict} of {text.digest(row.candidate_digest)}, night {row.night}; "
            f"the sample {part}: {row.reasons[0]}"
        )
        links = ((f"night {row.night}", f"/pages/nights/{row.night}"),)
        yield Event(at=row.created_at, what="decision", detail=detail, links=links)
    for row in uses.releases:
        detail = f"{row.number}: {text.digest(row.checkpoint_digest)}, which was trained on it"
        yield Event(at=row.created_at, what="release", detail=detail)
