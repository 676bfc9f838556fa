"""Brings the labels of a file into the project: understood at any time, stored between two nights."""

from __future__ import annotations

from pathlib import Path

from flywheel.annotate.configs import inputs_in
from flywheel.annotate.imports import ImportInto, Standing, Understood, compare, store, understand
from flywheel.label_files import Columns, Format, open_labels
from flywheel.ledger.datasets import has_start_data
from flywheel.loop.context import Loop, between_nights
from flywheel.records import Json


def look_at_labels(
    loop: Loop, path: Path, wanted: Format | None = None, columns: Columns | None = None
) -> tuple[Understood, Standing]:
    """Return what a file holds, and how it stands to the ledger; nothing is stored.

    Raises:
        UserError: the file is broken, or an answer is none of the task.
    """
    file = open_labels(
        path, wanted, columns or Columns(), names=inputs_in(loop.task.labeling.config)
    )
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
        if start_data is None or has_start_data(connection):
            return {}
    return {example.sample.id: example.answer for example in start_data()}
