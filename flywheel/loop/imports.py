"""Labels that others have made: of a file, or of a project of Label Studio that this one has adopted.

A file is understood at any time and stored between two nights. Its labels have a source of their own. Where
it says train, they train beside the start data; where it says test, they are held out with it. Nothing is
stored before all of the file has been read, and then in one transaction, so that an error leaves everything
as it was; to import a file again adds nothing.

A label by annotators always takes precedence. Nor is a sample imported that annotators are being
asked about, or that may not be used as the file says: what production may train on cannot test.

The adopted project is read in the ingest step, and looked at by check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Connection

from flywheel.annotate import PullResult
from flywheel.annotate.adopt import AdoptInto, Adoption, adopt
from flywheel.annotate.fits import (
    differences,
    inputs_in,
)
from flywheel.annotate.imports import Brought, ImportInto, Understood, understand
from flywheel.blobs import Blobs
from flywheel.dataset import take_start_data
from flywheel.errors import RefusedError, UnavailableError, UserError
from flywheel.label_files import (
    Columns,
    FileRow,
    Format,
    LabelFile,
    open_labels,
)
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.batches import origins
from flywheel.ledger.datasets import add_labels, is_start_data_settled, trained_groups
from flywheel.ledger.failures import move_failures
from flywheel.ledger.samples import Placed, add_samples, sides_of
from flywheel.loop.context import Loop, NightRun, between_nights
from flywheel.loop.routing import open_studio
from flywheel.records import (
    IMPORTED,
    SENSOR,
    FailureState,
    Json,
    Label,
    Sample,
    Split,
    canonical,
)

_RELIABILITY = 1.0
_NONE: Mapping[str, Json] = MappingProxyType({})
_BLOCK = 2_048
"""payloads that are written together: a disk is waited for once"""
_BLOCK_BYTES = 1 << 25
"""of them in memory, and one more payload"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The rows of a file by what the ledger holds of their samples."""

    new: tuple[Brought, ...]
    """to be stored: samples without a label, or with one that gives way"""
    num_changed: int
    """of the new ones: those that were imported, or start data, with another answer"""
    num_known: int
    """imported before, with the same answer"""
    left_out: Mapping[str, Sequence[str]]
    """reason -> where in the file"""


def look_at_labels(
    loop: Loop, path: Path, wanted: Format | None = None, columns: Columns | None = None
) -> tuple[Understood, Standing]:
    """Return what a file holds, and how it stands to the ledger; nothing is stored.

    Raises:
        UserError: the file is broken, or an answer is none of the task.
    """
    columns = columns or Columns()
    if (ready := loop.project.task) is not None:
        usual = Columns(input=ready.input, answer=ready.answer, split=ready.split)
        columns = replace(columns, usual=usual)
    file = open_labels(path, wanted, columns, names=inputs_in(loop.task.labeling.config))
    into = ImportInto(
        task=loop.task,
        group=loop.project.dataset.group,
        rename=loop.ledger.rename,
        folder=loop.project.directory,
    )
    understood = understand(file, into)
    starting = _starting(loop)
    with loop.ledger.read() as connection:
        return understood, compare(connection, understood.rows, starting)


def store_labels(loop: Loop, understood: Understood) -> Standing:
    """Store what is new of a file that was understood.

    Raises:
        BusyError: a night is running.
        UserError: the file has changed since; nothing is stored.
    """
    with between_nights(loop) as night:
        starting = _starting(loop)
        return store(loop.ledger, loop.blobs, understood, loop.now(), night.number, starting)


def _starting(loop: Loop) -> dict[str, Json]:
    """Return the start data that the first night will take in, by sample; {} after it.

    What it holds out must not train, whichever of the two comes first.
    """
    start_data = loop.task.start_data
    with loop.ledger.read() as connection:
        if start_data is None or is_start_data_settled(connection):
            return {}
    return {example.sample.id: example.answer for example in start_data()}


def read_adopted(night: NightRun) -> tuple[PullResult, str]:
    """Read the annotations of the adopted project; in a night, all of its labeling tasks.

    Returns:
        What was read, and a note; "" where nothing is adopted.
    """
    loop = night.loop
    number = loop.project.labeling.adopt
    if number is None:
        return PullResult(), ""
    into = AdoptInto(
        ledger=loop.ledger,
        blobs=loop.blobs,
        task=loop.task,
        group=loop.project.dataset.group,
        project_id=number,
    )
    # What the start data hold out must not train: they come first.
    take_start_data(loop.ledger, loop.blobs, loop.task, loop.project.dataset, loop.now())
    try:
        found = adopt(into, open_studio(loop), loop.now(), all_of_it=night.keeps_results)
    except (UnavailableError, RefusedError) as error:
        night.skip("ingest", str(error))
        return PullResult(), f"the adopted project was not read: {error}"
    return found.read, _note(found, number)


def _note(found: Adoption, number: int) -> str:
    left = sum(found.left_out.values())
    parts = [f"{found.num_tasks:,} labeling tasks of the adopted project {number} are known"]
    if left:
        parts.append(
            f"{left:,} are left out, as {max(found.left_out, key=found.left_out.__getitem__)}"
        )
    if found.differences:
        parts.append(f"its labeling config differs: {found.differences[0]}")
    return ", ".join(parts)


def adoption_lines(loop: Loop) -> Iterator[str]:
    """Yield what is to be known of the adopted project before a night reads it."""
    number = loop.project.labeling.adopt
    if number is None:
        return
    try:
        found = open_studio(loop).look_at(number)
    except (UnavailableError, RefusedError) as error:
        yield f"[labeling] adopt = {number} was not looked at: {error}"
        return
    if found is None:
        yield f"[labeling] adopt = {number}: Label Studio has no such project; correct the number"
        return
    faults = differences(found.config, loop.task.labeling.config)
    yield from (
        f"the adopted project {found.title!r} differs from the task: {one}" for one in faults
    )


def compare(
    connection: Connection, rows: Sequence[Brought], starting: Mapping[str, Json] = _NONE
) -> Standing:
    """Hold the rows of a file against what the ledger knows of their samples.

    Args:
        connection: to the ledger.
        rows: of the file.
        starting: sample id -> answer of start data that the first night will take in.
    """
    ids = [row.sample_id for row in rows]
    labels = {key: _started(key, starting[key]) for key in ids if key in starting}
    stored = newest_labels(connection, ids)
    # Start data that the first night takes in replaces what an earlier try has taken.
    labels |= {k: one for k, one in stored.items() if not (starting and one.source == "start")}
    sides, chosen = sides_of(connection, ids), origins(connection)
    testing = [row.group for row in rows if row.split is Split.TEST]
    trained = trained_groups(connection, testing)
    new, left_out, num_changed, num_known = list[Brought](), dict[str, list[str]](), 0, 0
    for row in rows:
        label = labels.get(row.sample_id)
        stands = label if label is not None and label.answer is not None else None
        is_ours = stands is not None and stands.source == IMPORTED
        if stands is not None and is_ours and canonical(stands.answer) == canonical(row.answer):
            num_known += 1
            continue
        side = sides.get(row.sample_id)
        if stands is not None and stands.source == "start":
            same = canonical(stands.answer) == canonical(row.answer)
            reason = "the start data has it already" if same or starting else ""
            reason += ", with another answer: correct it there" if starting and not same else ""
            row = replace(row, split=side or row.split)  # noqa: PLW2901 - it stays where it was
        else:
            reason = _obstacle(row, stands, side, trained, row.sample_id in chosen)
        if reason:
            left_out.setdefault(reason, []).append(row.place)
        else:
            num_changed += stands is not None and stands.source != SENSOR
            new.append(row)
    return Standing(new=tuple(new), num_changed=num_changed, num_known=num_known, left_out=left_out)


def _obstacle(
    row: Brought, label: Label | None, side: Split | None, trained: set[str], is_chosen: bool
) -> str:
    """Return why a row is not stored; "" if it is."""
    if label is not None and label.source not in (IMPORTED, SENSOR):
        same = canonical(label.answer) == canonical(row.answer)
        return "annotators have labeled it already" + ("" if same else ", with another answer")
    if is_chosen:
        return "annotators are being asked about it"
    if side is Split.TEST and row.split is Split.TRAIN:
        return "it can only test, and the file lets it train"
    if side is Split.TRAIN and row.split is Split.TEST:
        return "it may have been trained on, and the file holds it out"
    if row.split is Split.TEST and row.group in trained:
        return "a model was trained on its group, so that it cannot test"
    return ""


def _started(sample_id: str, answer: Json) -> Label:
    return Label(
        sample_id=sample_id, answer=answer, reliability=1.0, num_annotations=0, source="start"
    )


def store(
    ledger: Ledger,
    blobs: Blobs,
    understood: Understood,
    now: datetime,
    night: int,
    starting: Mapping[str, Json] = _NONE,
) -> Standing:
    """Store what is new of a file: bytes first, then samples and labels in one transaction.

    Raises:
        UserError: the file changed after it was understood; nothing is stored.
    """
    with ledger.read() as connection:
        wanted = {row.sample_id for row in compare(connection, understood.rows, starting).new}
    for block in _payloads(understood.file, set(wanted)):
        blobs.put_all(block)
    with ledger.begin() as connection:
        # Compared again: an annotator may have answered meanwhile.
        standing = compare(connection, understood.rows, starting)
        fresh = [row for row in standing.new if row.sample_id in wanted]
        add_samples(connection, map(_placed, fresh), now)
        add_labels(connection, map(_label, fresh), now)
        ids = [row.sample_id for row in fresh]
        move_failures(connection, ids, FailureState.LABELED, night, now)
    return replace(standing, new=tuple(fresh))


def _payloads(file: LabelFile, wanted: set[str]) -> Iterator[list[bytes]]:
    """Yield the bytes of the samples that are wanted, in blocks."""
    block, size = list[bytes](), 0
    for row in file.rows():
        if isinstance(row, FileRow) and row.sample.id in wanted:
            wanted.discard(row.sample.id)
            block.append(row.sample.payload)
            size += len(row.sample.payload)
            if len(block) == _BLOCK or size >= _BLOCK_BYTES:
                yield block
                block, size = [], 0
    if wanted:
        raise UserError(f"{file.path} changed while it was read. Run the same command again")
    yield block


def _placed(row: Brought) -> Placed:
    sample = Sample(id=row.sample_id, payload=b"", media_type=row.media_type, metadata=row.metadata)
    return Placed(sample=sample, group=row.group, split=row.split)


def _label(row: Brought) -> Label:
    return Label(
        sample_id=row.sample_id,
        answer=row.answer,
        reliability=_RELIABILITY,
        num_annotations=row.num_annotations,
        source=IMPORTED,
    )
