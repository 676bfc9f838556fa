"""Writes a dataset version as a folder, see `flywheel.label_files` for its layouts."""

from __future__ import annotations

from pathlib import Path

from flywheel.blobs import Blobs
from flywheel.label_files import Exported, Layout, export_rows
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.samples import StoredSamples, groups_of


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
