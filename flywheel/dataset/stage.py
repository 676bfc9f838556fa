"""The dataset stage: makes an immutable dataset version from the current labels.

The production test set is the probability share alone, each row weighted by 1 / inclusion
probability, while it is in the test window (leakage.py) or where its group can only test; then it
trains. Targeted samples only train. Held-out start data is tested separately, to show that nothing
learned at the start is forgotten; labels that were imported to test are held out with it. Labels from
sensors and outcomes only train, weighted by how reliable they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.dataset.content import compared, numbers_of
from flywheel.dataset.copies import Copy, Read, copies_between
from flywheel.dataset.leakage import (
    FEW_COPIES,
    Dropped,
    Window,
    check_share,
    keep_splits_apart,
    read_window,
)
from flywheel.dataset.outcomes import read_outcomes
from flywheel.dataset.start import take_start_data
from flywheel.errors import DamagedError, PayloadError, TaskError, UnknownIdError
from flywheel.label_files import Exported, Layout, export_rows
from flywheel.ledger import Ledger
from flywheel.ledger.batches import Origin, origins
from flywheel.ledger.datasets import (
    add_version,
    current_labels,
    get_version,
    latest_version,
    read_manifest,
    trained_groups,
    write_manifest,
)
from flywheel.ledger.samples import (
    StoredSamples,
    groups_of,
    load_samples,
)
from flywheel.records import (
    ANNOTATORS,
    FAILED,
    IMPORTED,
    SENSOR,
    WORKED,
    Array,
    DatasetRow,
    DatasetVersion,
    Json,
    Label,
    Sample,
    Share,
    Split,
    content_id,
)
from flywheel.settings.learning import Dataset
from flywheel.task import Task

_NOT_READ = (PayloadError, TaskError, UnknownIdError, DamagedError)
"""what reading a sample raises that is broken, or whose bytes are gone"""
_MOST_UNREADABLE = 0.01
_ROWS_TRIED = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionMade:
    """The current dataset version, and the rows that were left out."""

    version: DatasetVersion
    is_new: bool
    dropped: tuple[Dropped, ...]
    unreadable: tuple[Dropped, ...]
    """rows of samples that `Task.inputs` fails on"""
    outcomes: str
    """how many outcomes train, and how far they are trusted; "" without any"""
    num_waiting: int
    """rows that train once their group has left the test window"""


def make_version(
    ledger: Ledger,
    blobs: Blobs,
    task: Task,
    settings: Dataset,
    *,
    now: datetime,
    night: int = 0,
    least: int = 0,
    outcomes: int = 0,
) -> VersionMade:
    """Store the dataset version of the current labels; in one night the same labels give the same.

    Args:
        ledger: the project's.
        blobs: where manifests and payloads are.
        task: reads start data and outcomes.
        settings: groups, copies and the test window.
        now: time of creation.
        night: tonight's number, by which the test window moves.
        least: newest labels that stay in it however old they are.
        outcomes: number of newest outcomes that are read too.

    Raises:
        UserError: most samples cannot be read.
        CopiesError: the splits share more near-duplicates than [dataset] most_copies allows.
    """
    take_start_data(ledger, blobs, task, settings, now)
    with ledger.read() as connection:
        parent = latest_version(connection)
        labels, imported, window = _read_labels(connection, settings, night, least)
        known = {row.sample_id for row in labels}
        found = read_outcomes(connection, task, _by_annotators(labels), known, outcomes)
        whole = [*labels, *found.rows]
        groups = groups_of(connection, [row.sample_id for row in whole])
        trained = trained_groups(connection, groups.values())
    rows = [row for row in whole if not _waits(row, groups, window)]
    read, numbers = (_reader(ledger, blobs, of) for of in (partial(compared, task), numbers_of))
    near = settings.near_duplicate
    rows, copies, unreadable = _readable(rows, groups, read, numbers, near)
    kept, leaks = keep_splits_apart(rows, groups, copies, trained, imported)
    # Traffic repeats itself: outcomes that are copies are left out, and stop no night.
    lost = [one for one in leaks if one.sample_id in known]
    check_share(labels, groups, lost, settings.most_copies)
    manifest = write_manifest(kept)
    is_new = parent is None or parent.id != content_id(manifest)
    if parent is None or is_new:
        version = _version(kept, blobs.put(manifest), parent, now)
        with ledger.begin() as connection:
            add_version(connection, version)
            parent = get_version(connection, version.id)
    return VersionMade(
        version=parent,
        is_new=is_new,
        dropped=(*leaks, *found.dropped),
        unreadable=tuple(unreadable),
        outcomes=found.note,
        num_waiting=len(whole) - len(rows),
    )


def _read_labels(
    connection: Connection, settings: Dataset, night: int, least: int
) -> tuple[list[DatasetRow], set[str], Window]:
    """Return the rows of the current labels, those that were imported, and the test window."""
    labeled = current_labels(connection)
    chosen = origins(connection)
    known = {label.sample_id for label, _ in labeled if label.source == ANNOTATORS}
    window = read_window(connection, settings, night=night, labeled=known, least=least)
    rows = (_row(label, split, chosen, window) for label, split in labeled)
    imported = {label.sample_id for label, _ in labeled if label.source == IMPORTED}
    return [row for row in rows if row is not None], imported, window


def _by_annotators(labels: Sequence[DatasetRow]) -> dict[str, Json]:
    """Return the answers of annotators to samples that train, by sample."""
    return {
        row.sample_id: row.answer
        for row in labels
        if row.split is Split.TRAIN and row.origin not in ("start", IMPORTED, SENSOR)
    }


def _waits(row: DatasetRow, groups: Mapping[str, str], window: Window) -> bool:
    """Whether a row would train, but for the test window that holds its group."""
    trains = row.split is Split.TRAIN and row.origin != "start"
    return trains and groups[row.sample_id] in window.held


def _row(
    label: Label, split: Split, chosen: Mapping[str, Origin], window: Window
) -> DatasetRow | None:
    """Return the dataset row of a label; None for one that may neither train nor test."""
    origin, weight = "start", 1.0
    if label.source == SENSOR:
        if split is Split.TEST:
            return None  # its group is for testing, and sensor labels never test
        origin, weight = SENSOR, label.reliability
    elif label.source == IMPORTED:
        origin = IMPORTED if split is Split.TRAIN else "start"
    elif label.source == ANNOTATORS and label.sample_id not in chosen:  # of an adopted project
        if split is Split.TEST:
            return None  # its group is for testing, and it was not drawn by chance
        origin = IMPORTED
    elif label.source != "start":
        share, probability = chosen[label.sample_id]
        origin = share.value
        if split is Split.TEST and share is not Share.PROBABILITY:
            return None  # its group is for testing, and it was not drawn by chance
        if label.sample_id in window.testing:
            split = Split.TEST
        if split is Split.TEST and probability is not None:
            weight = 1.0 / probability
    return DatasetRow(
        sample_id=label.sample_id, split=split, origin=origin, answer=label.answer, weight=weight
    )


def _reader(ledger: Ledger, blobs: Blobs, of: Callable[[Sequence[Sample]], Array]) -> Read:
    """Return what makes (N, D) numbers of stored samples."""

    def read(ids: Sequence[str]) -> Array:
        with ledger.read() as connection:
            return of(load_samples(connection, blobs, ids))

    return read


def _readable(
    rows: list[DatasetRow],
    groups: Mapping[str, str],
    read: Read,
    numbers: Read,
    near_duplicate: float,
) -> tuple[list[DatasetRow], list[Copy], list[Dropped]]:
    """Return the rows that can be read, their near-duplicates, and the rows that cannot be read."""
    try:
        return rows, copies_between(rows, groups, read, numbers, near_duplicate), []
    except _NOT_READ:  # of one sample or of all: the labels of the others count
        unreadable = _unreadable(rows, read)
    bad = {one.sample_id for one in unreadable}
    rows = [row for row in rows if row.sample_id not in bad]
    return rows, copies_between(rows, groups, read, numbers, near_duplicate), unreadable


def _unreadable(rows: Sequence[DatasetRow], read: Read) -> list[Dropped]:
    """Return the rows whose inputs cannot be read, each with its reason.

    Raises:
        UserError: they are more than a few, so that it is the function and no sample that is broken.
    """
    found = list[Dropped]()
    most = max(FEW_COPIES, _MOST_UNREADABLE * len(rows))
    for start in range(0, len(rows), _ROWS_TRIED):
        part = rows[start : start + _ROWS_TRIED]
        try:
            read([row.sample_id for row in part])
        except _NOT_READ:
            for row in part:
                try:
                    read([row.sample_id])
                except _NOT_READ as error:
                    if len(found) >= most:
                        raise
                    reason = f"it cannot be read: {error}"
                    found.append(Dropped(sample_id=row.sample_id, split=row.split, reason=reason))
    return found


def _version(
    rows: Sequence[DatasetRow], manifest_digest: str, parent: DatasetVersion | None, now: datetime
) -> DatasetVersion:
    train = [row for row in rows if row.split is Split.TRAIN]
    test = [row for row in rows if row.split is Split.TEST]
    num_start_test = sum(row.origin == "start" for row in test)
    return DatasetVersion(
        id=manifest_digest,
        parent_id=parent.id if parent else None,
        num_train=sum(row.origin not in (WORKED, FAILED) for row in train),
        num_test=len(test) - num_start_test,
        num_start_test=num_start_test,
        train_set_digest=content_id(write_manifest(train)),
        test_set_digest=content_id(write_manifest(test)),
        created_at=now,
    )


def export_version(
    ledger: Ledger, blobs: Blobs, version_id: str, folder: Path, layout: Layout = "jsonl"
) -> Exported:
    """Write a dataset version into a new folder.

    Raises:
        UserError: the folder holds files, the layout cannot hold the answers, or a sample is gone.
    """
    rows = read_manifest(blobs, version_id)
    ids = [row.sample_id for row in rows]
    with ledger.read() as connection:
        groups = groups_of(connection, ids)
    samples = StoredSamples(ledger, blobs, ids)
    return export_rows(samples, rows, folder, layout=layout, groups=groups)
