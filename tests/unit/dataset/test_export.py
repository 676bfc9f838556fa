import json

import pytest

from flywheel.blobs import Blobs
from flywheel.dataset import export_version
from flywheel.errors import UnknownIdError, UserError
from flywheel.ledger.datasets import find_version
from flywheel.records import DatasetRow, Split


@pytest.fixture
def version(ledger, production, draw_points, tmp_path):
    """Store a version of 100 points; their samples."""
    production.blobs = Blobs.open(str(tmp_path / "blobs"))
    samples, sides = draw_points(100, 1)
    for sample in samples:
        production.predict(0.3, sample=sample, group=f"scene {sample.id[0]}")
        production.blobs.put(sample.payload)
    rows = [
        DatasetRow(
            sample_id=sample.id, split=Split.TRAIN, origin="targeted", answer=side, weight=1.0
        )
        for sample, side in zip(samples, sides, strict=True)
    ]
    return production.version(rows), samples


def test_a_version_comes_with_its_groups(version, ledger, production, tmp_path):
    made, samples = version
    done = export_version(ledger, production.blobs, made.id, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text().splitlines()]
    assert done.num_train == len(lines) == 100
    assert [line["id"] for line in lines] == sorted(sample.id for sample in samples)
    assert all(line["group"] == f"scene {line['id'][0]}" for line in lines)


def test_a_version_is_found_by_the_beginning_of_its_id(version, ledger):
    made, _ = version
    with ledger.read() as connection:
        assert find_version(connection, made.id[:8]) == find_version(connection, "latest") == made
        for prefix in ("", "xyz", "%"):
            with pytest.raises((UnknownIdError, UserError)):
                find_version(connection, prefix)


def test_without_a_version_the_next_command_is_named(ledger):
    with ledger.read() as connection, pytest.raises(UnknownIdError, match="flywheel night"):
        find_version(connection, "latest")
