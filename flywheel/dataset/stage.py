"""The dataset stage: makes an immutable dataset version from the current labels.

The production test set is the probability share alone, each row weighted by 1 / inclusion
probability; targeted samples only train. Held-out start data is tested separately, to show that
nothing learned at the start is forgotten. Labels from sensors only train, weighted by their
reliability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.blobs import Blobs
from flywheel.dataset.leakage import Dropped, keep_splits_apart
from flywheel.ledger import Ledger
from flywheel.ledger.batches import Origin, origins
from flywheel.ledger.datasets import (
    add_labels,
    add_version,
    current_labels,
    get_version,
    has_start_data,
    latest_version,
    write_manifest,
)
from flywheel.ledger.samples import Placed, add_samples, groups_of, load_samples
from flywheel.records import (
    SENSOR,
    Array,
    DatasetRow,
    DatasetVersion,
    Label,
    Sample,
    Share,
    Split,
    content_id,
)
from flywheel.settings.learning import Dataset
from flywheel.splits import group_of
from flywheel.task import Example, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionMade:
    """The current dataset version, and the rows that were left out."""

    version: DatasetVersion
    is_new: bool
    dropped: tuple[Dropped, ...]


def make_version(
    ledger: Ledger, blobs: Blobs, task: Task, settings: Dataset, *, now: datetime
) -> VersionMade:
    """Store the dataset version of the current labels; the same labels give the same version."""
    _ingest_start_data(ledger, blobs, task, settings, now)
    with ledger.read() as connection:
        labeled = current_labels(connection)
        chosen = origins(connection)
        parent = latest_version(connection)
        ids = [label.sample_id for label, _ in labeled]
        groups = groups_of(connection, ids)
        samples = load_samples(connection, blobs, ids)
    rows = [row for label, split in labeled if (row := _row(label, split, chosen)) is not None]
    vectors = _vectors(task, samples)
    kept, dropped = keep_splits_apart(rows, groups, vectors, settings.near_duplicate)
    manifest = write_manifest(kept)
    if parent is not None and parent.id == content_id(manifest):
        return VersionMade(version=parent, is_new=False, dropped=tuple(dropped))
    version = _version(kept, blobs.put(manifest), parent, now)
    with ledger.begin() as connection:
        add_version(connection, version)
        version = get_version(connection, version.id)
    return VersionMade(version=version, is_new=True, dropped=tuple(dropped))


def _ingest_start_data(
    ledger: Ledger, blobs: Blobs, task: Task, settings: Dataset, now: datetime
) -> None:
    with ledger.read() as connection:
        if task.start_data is None or has_start_data(connection):
            return
    examples = list(task.start_data())
    blobs.put_all(example.sample.payload for example in examples)
    with ledger.begin() as connection:
        placed = (
            Placed(
                sample=example.sample,
                group=group_of(example.sample.metadata, example.sample.id, settings.group),
                split=example.split,
            )
            for example in examples
        )
        add_samples(connection, placed, now)
        add_labels(connection, (_start_label(example) for example in examples), now)


def _start_label(example: Example) -> Label:
    return Label(
        sample_id=example.sample.id,
        answer=example.answer,
        reliability=1.0,
        num_annotations=0,
        source="start",
    )


def _row(label: Label, split: Split, chosen: Mapping[str, Origin]) -> DatasetRow | None:
    """Return the dataset row of a label; None for one that may neither train nor test."""
    origin, weight = "start", 1.0
    if label.source == SENSOR:
        if split is Split.TEST:
            return None  # its group is for testing, and sensor labels never test
        origin, weight = SENSOR, label.reliability
    elif label.source != "start":
        share, probability = chosen[label.sample_id]
        origin = share.value
        if (share is Share.PROBABILITY) != (split is Split.TEST):
            return None  # the setting test_groups changed after the sample was chosen
        weight = 1.0 / probability if probability is not None else 1.0
    return DatasetRow(
        sample_id=label.sample_id, split=split, origin=origin, answer=label.answer, weight=weight
    )


def _vectors(task: Task, samples: Sequence[Sample]) -> dict[str, Array]:
    vectors: dict[str, Array] = {}
    for start in range(0, len(samples), 256):
        block = samples[start : start + 256]
        inputs = task.inputs(block).flatten(1).cpu().numpy()
        vectors.update((sample.id, row) for sample, row in zip(block, inputs, strict=True))
    return vectors


def _version(
    rows: Sequence[DatasetRow], manifest_digest: str, parent: DatasetVersion | None, now: datetime
) -> DatasetVersion:
    train = [row for row in rows if row.split is Split.TRAIN]
    test = [row for row in rows if row.split is Split.TEST]
    num_start_test = sum(row.origin == "start" for row in test)
    return DatasetVersion(
        id=manifest_digest,
        parent_id=parent.id if parent else None,
        num_train=len(train),
        num_test=len(test) - num_start_test,
        num_start_test=num_start_test,
        train_set_digest=content_id(write_manifest(train)),
        test_set_digest=content_id(write_manifest(test)),
        created_at=now,
    )
