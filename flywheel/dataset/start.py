"""The start data of a task: taken in before a model is trained, and what has changed of it since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flywheel.blobs import Blobs
from flywheel.dataset.content import compared, numbers_of
from flywheel.dataset.copies import copies_between
from flywheel.dataset.leakage import check_share, keep_splits_apart
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.datasets import is_start_data_settled, replace_start_data, start_data
from flywheel.ledger.samples import Placed, group_of
from flywheel.records import IMPORTED, Array, DatasetRow, Label
from flywheel.settings.learning import Dataset
from flywheel.task import Example, Task

_MOST_CHECKED = 5_000
"""samples of the start data that a check compares; ids are hashes, so that any part is a random one"""


def take_start_data(
    ledger: Ledger, blobs: Blobs, task: Task, settings: Dataset, now: datetime
) -> None:
    """Store the start data of the task, anew where it has changed while no model was trained.

    Later, models rest on it: what comes then is imported, see `flywheel import-labels`.
    """
    if task.start_data is None:
        return
    with ledger.read() as connection:
        if is_start_data_settled(connection):
            return
        before = start_data(connection)
    examples = list(task.start_data())
    if before == {one.sample.id: (one.answer, one.split) for one in examples}:
        return
    blobs.put_all(example.sample.payload for example in examples)
    with ledger.begin() as connection:
        placed = [
            Placed(
                sample=example.sample,
                group=_group(example, settings),
                split=example.split,
            )
            for example in examples
        ]
        replace_start_data(connection, placed, map(_start_label, examples), now)


def changed_start_data(ledger: Ledger, examples: Sequence[Example]) -> str:
    """Return how the start data differs from what models were trained on; "" where it does not."""
    now = {one.sample.id: one.answer for one in examples}
    with ledger.read() as connection:
        if not now or not is_start_data_settled(connection):
            return ""
        before, known = start_data(connection), newest_labels(connection, list(now))
    brought = {key: one.answer for key, one in known.items() if one.source in ("start", IMPORTED)}
    other = sum(brought[key] != answer for key, answer in now.items() if key in brought)
    counts = (len(now.keys() - known.keys()), len(before.keys() - now.keys()), other)
    if not any(counts):
        return ""
    return (
        "the start data is not as models were trained on it, {:,} samples are new, {:,} gone and {:,} "
        "have another answer; it stays as it was. flywheel import-labels FILE brings in what is new "
        "or corrected".format(*counts)
    )


def check_start_data(examples: Sequence[Example], task: Task, settings: Dataset) -> None:
    """Check that the splits of the start data share few near-duplicates, before a night does.

    Raises:
        CopiesError: they share more than [dataset] most_copies allows.
    """
    found = {one.sample.id: one for one in examples}
    some = {key: found[key] for key in sorted(found)[:_MOST_CHECKED]}
    rows = [
        DatasetRow(sample_id=key, split=one.split, origin="start", answer=one.answer, weight=1.0)
        for key, one in some.items()
    ]
    groups = {key: _group(one, settings) for key, one in some.items()}

    def read(ids: Sequence[str]) -> Array:
        return compared(task, [some[key].sample for key in ids])

    def numbers(ids: Sequence[str]) -> Array:
        return numbers_of([some[key].sample for key in ids])

    copies = copies_between(rows, groups, read, numbers, settings.near_duplicate)
    _, leaks = keep_splits_apart(rows, groups, copies)
    check_share(rows, groups, leaks, settings.most_copies)


def _group(example: Example, settings: Dataset) -> str:
    return group_of(example.sample.metadata, example.sample.id, settings.group)


def _start_label(example: Example) -> Label:
    return Label(
        sample_id=example.sample.id,
        answer=example.answer,
        reliability=1.0,
        num_annotations=0,
        source="start",
    )
