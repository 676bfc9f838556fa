"""Adopts a project of Label Studio that others have made: its annotations become labels, too.

It is only read: nothing in it is changed, and nothing is sent there. What its labeling tasks are about
becomes samples of ours, so that annotators are not asked again; what annotators answered counts as in
our own projects, by the same consensus. So each pull goes on where the last one ended, and a label
changes with its annotations. A night looks at all of it, between nights at what has changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flywheel.annotate.backend import LabelingBackend, LabelingTask
from flywheel.annotate.fits import differences, inputs_in
from flywheel.annotate.pull import (
    About,
    PullResult,
    note_read,
    noted,
    read_upto,
    renamed,
    returned_of,
)
from flywheel.blobs import Blobs
from flywheel.errors import RefusedError, UserError
from flywheel.label_files import LeftOut
from flywheel.label_files.studio import choose_input, sample_of
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import (
    Adopted,
    Returned,
    add_adopted,
    adopted_tasks,
    drop_annotations,
    save_annotations,
)
from flywheel.ledger.campaigns import all_campaigns
from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.samples import Placed, add_samples, group_of, load_each, sides_of
from flywheel.records import Json, Purpose, Sample, Split, canonical
from flywheel.task import Task

_PART = 50
"""samples in memory at the same time"""
_MISSING = "its file is not in Label Studio; other addresses are not fetched"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptInto:
    """The project of ours, and the one that it adopts."""

    ledger: Ledger
    blobs: Blobs
    task: Task
    group: str | None
    """[dataset] group"""
    project_id: int
    """[labeling] adopt"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adoption:
    """What was read of the adopted project."""

    title: str
    num_tasks: int
    """labeling tasks whose samples are known"""
    read: PullResult
    left_out: Mapping[str, int]
    """reason -> labeling tasks, of those that were looked at now"""
    differences: tuple[str, ...]
    """of its labeling config from the task's"""


@dataclass
class _Run:
    """One reading of the adopted project."""

    into: AdoptInto
    studio: LabelingBackend
    now: datetime
    config: str
    known: dict[int, Adopted]
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return f"project {self.into.project_id} in Label Studio"


def adopt(into: AdoptInto, studio: LabelingBackend, now: datetime, *, all_of_it: bool) -> Adoption:
    """Read what changed in the adopted project; with `all_of_it`, also what nobody has answered yet.

    Raises:
        RefusedError: there is no such project, or it is one of our own.
        UnavailableError: Label Studio or the blob store does not answer; the next run goes on.
    """
    found = studio.look_at(into.project_id)
    with into.ledger.read() as connection:
        own = {one.external_project for one in all_campaigns(connection)}
        known = adopted_tasks(connection, into.project_id)
    if found is None or into.project_id in own:
        fault = (
            "does not exist there"
            if found is None
            else "is this project's own, which is read anyway"
        )
        raise RefusedError(
            f"[labeling] adopt: project {into.project_id} of Label Studio {fault}. Write the number "
            "in the address of another project's page, or remove adopt"
        )
    run = _Run(into, studio, now, found.config, known)
    read = _read_changes(run)
    if all_of_it:
        there = {row.external_id: row for row in studio.inventory(into.project_id)}
        new = _register(run, [(number, row.data) for number, row in there.items()])
        begun = [number for number in new if there[number].is_begun]
        read += _ingest(run, studio.fetch(into.project_id, begun) if begun else ())
    return Adoption(
        title=found.title,
        num_tasks=len(run.known),
        read=read,
        left_out=run.left_out,
        differences=tuple(differences(found.config, into.task.labeling.config)),
    )


def _read_changes(run: _Run) -> PullResult:
    """Read the labeling tasks that were annotated or changed since the last time."""
    into, mark = run.into, f"label studio project {run.into.project_id} adopted"
    total, newest = PullResult(), None
    for part in _parts(run.studio.changed_since(into.project_id, read_upto(into.ledger, mark))):
        _register(run, [(task.external_id, task.data) for task in part])
        total += _ingest(run, part)
        newest = max([*(task.updated_at for task in part), *([newest] if newest else [])])
    if newest is not None:
        # It moves last: after a kill in between, the same changes are read again.
        note_read(into.ledger, mark, newest)
    return total


def _parts(tasks: Iterable[LabelingTask]) -> Iterator[list[LabelingTask]]:
    part = list[LabelingTask]()
    for task in tasks:
        part.append(task)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part


def _register(run: _Run, tasks: Sequence[tuple[int, dict[str, Json]]]) -> list[int]:
    """Store the samples of labeling tasks that are new or were edited; return their numbers."""
    digests = {number: _digest(data) for number, data in tasks}
    todo = [
        (number, data)
        for number, data in tasks
        if number not in run.known or run.known[number].data_digest != digests[number]
    ]
    done = list[int]()
    for start in range(0, len(todo), _PART):
        part = todo[start : start + _PART]
        samples = {number: one for number, data in part if (one := _sample(run, number, data))}
        run.into.blobs.put_all(one.payload for one in samples.values() if isinstance(one, Sample))
        rows = {
            number: Adopted(number, one if isinstance(one, str) else one.id, digests[number])
            for number, one in samples.items()
        }
        placed = [_placed(run, one) for one in samples.values() if isinstance(one, Sample)]
        with run.into.ledger.begin() as connection:
            drop_annotations(
                connection, [_place(run, number) for number in rows.keys() & run.known]
            )
            add_samples(connection, placed, run.now)
            add_adopted(connection, run.into.project_id, rows.values())
        run.known |= rows
        done += rows
    return done


def _digest(data: Mapping[str, Json]) -> str:
    return hashlib.blake2b(canonical(dict(data)).encode(), digest_size=16).hexdigest()


def _placed(run: _Run, sample: Sample) -> Placed:
    group = group_of(sample.metadata, sample.id, run.into.group)
    return Placed(sample=sample, group=group, split=Split.TRAIN)


def _sample(run: _Run, number: int, data: Mapping[str, Json]) -> Sample | str | None:
    """Return the sample of a labeling task, or the id of one that we sent; None if it has none."""
    sent = data.get("sample_id")
    if isinstance(sent, str):
        with run.into.ledger.read() as connection:
            if sides_of(connection, [sent]):
                return sent
    place = f"labeling task {number} of {run.name}"
    try:
        key = choose_input(data, inputs_in(run.config))
        found = sample_of(data, key, place, lambda address: _file(run, address))
    except UserError as error:
        found = LeftOut(place=place, reason=str(error).removeprefix(f"{place}, "))
    if isinstance(found, Sample):
        return found
    run.left_out[found.reason] += 1
    with run.into.ledger.begin() as connection:
        night = current_night_number(connection)
        add_skip(connection, place, found.reason[:500], night, run.now)
    return None


def _file(run: _Run, address: str) -> tuple[str, bytes] | str:
    payload = run.studio.download(address)
    return _MISSING if payload is None else (address.partition("?")[0], payload)


def _ingest(run: _Run, tasks: Iterable[LabelingTask]) -> PullResult:
    """Store the annotations of labeling tasks whose samples are known."""
    total = PullResult()
    for part in _parts(tasks):
        ours = [
            renamed(one, run.into.ledger.rename) for one in part if one.external_id in run.known
        ]
        ids = {run.known[one.external_id].sample_id for one in ours}
        with run.into.ledger.read() as connection:
            samples, faults = load_each(connection, run.into.blobs, sorted(ids))
        answers = [(task.external_id, _returned(run, task, samples, faults)) for task in ours]
        total += _store(run, answers)
    return total


def _returned(
    run: _Run, task: LabelingTask, samples: Mapping[str, Sample], faults: Mapping[str, str]
) -> list[Returned]:
    key = run.known[task.external_id].sample_id
    about = About(key, Purpose.ADOPTED, _place(run, task.external_id))
    return [
        returned_of(one, about, samples.get(key), faults.get(key), run.into.task)
        for one in task.annotations
    ]


def _place(run: _Run, number: int) -> str:
    return f"adopted {run.into.project_id}/{number}"


def _store(run: _Run, answers: Collection[tuple[int, list[Returned]]]) -> PullResult:
    by_task = {
        _place(run, number): (run.known[number].sample_id, Purpose.ADOPTED, returned)
        for number, returned in answers
    }
    with run.into.ledger.begin() as connection:
        return noted(connection, save_annotations(connection, by_task, run.now), run.now)
