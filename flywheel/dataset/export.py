"""Writes a dataset version as a folder, see `flywheel.label_files` for its layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.blobs import Blobs
from flywheel.label_files import Exported, Layout, export_rows
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.samples import groups_of, load_samples
from flywheel.records import DatasetRow, Sample

_BLOCK = 64
"""samples in memory at the same time"""


def export_version(
    ledger: Ledger, blobs: Blobs, version_id: str, folder: Path, layout: Layout = "jsonl"
) -> Exported:
    """Write a dataset version into a new folder.

    Raises:
        UserError: the folder holds files, the layout cannot hold the answers, or a sample is gone.
    """
    rows = read_manifest(blobs, version_id)
    with ledger.read() as connection:
        groups = groups_of(connection, [row.sample_id for row in rows])
    return export_rows(_loaded(ledger, blobs, rows), rows, folder, layout=layout, groups=groups)


def _loaded(ledger: Ledger, blobs: Blobs, rows: Sequence[DatasetRow]) -> Iterator[Sample]:
    for start in range(0, len(rows), _BLOCK):
        block = [row.sample_id for row in rows[start : start + _BLOCK]]
        with ledger.read() as connection:
            yield from load_samples(connection, blobs, block)
