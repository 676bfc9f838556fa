"""What is in a segment is durable, comes into the ledger once, and what is damaged stops nothing else."""

import os
import threading
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import func, select

from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import Logged, get_prediction
from flywheel.ledger.samples import load_samples
from flywheel.ledger.segments import Entry, Segment, take_in, waiting_bytes
from flywheel.ledger.tables import predictions, skips
from flywheel.records import Prediction, Sample, Split

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)


def entry(number, answer=1.5, fault=None):
    sample = Sample.of(f"payload {number}".encode(), "text/plain", {"session": f"ä{number}"})
    prediction = Prediction(
        id=f"{number:032x}",
        sample_id=sample.id,
        answer=answer,
        confidence=0.25,
        embedding=np.array([0.1, -2.0], dtype=np.float32),
        latency_ms=1.25,
        model_digest="d" * 64,
        created_at=NOW,
    )
    row = Logged(sample=sample, group="g", split=Split.TRAIN, prediction=prediction)
    return Entry(row=row, fault=fault)


@pytest.fixture
def ledger(tmp_path):
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        yield ledger


@pytest.fixture
def folder(tmp_path):
    (folder := tmp_path / "predictions").mkdir()
    return folder


def written(folder, *batches):
    segment = Segment(folder)
    for batch in batches:
        segment.append(batch)
    segment.close()
    return segment.path


def count(ledger):
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(predictions)).scalar_one()


ANSWERS = [None, "ä \x00 \U0001f600", [1, {"a": None}], 2**70, 0.1, {"nested": [True, 1e300]}]


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_a_prediction_comes_out_as_it_went_in(ledger, folder, tmp_path, answer):
    blobs = Blobs.open(str(tmp_path / "blobs"))
    given = entry(1, answer)
    written(folder, [entry(0), given], [entry(2)])
    assert take_in(ledger, folder) == 3
    with ledger.read() as connection:
        found = get_prediction(connection, given.row.prediction.id)
        (sample,) = load_samples(connection, blobs, [found.sample_id])
    assert found.answer == answer
    assert found.embedding.tolist() == given.row.prediction.embedding.tolist()
    assert (found.created_at, found.latency_ms, found.confidence) == (NOW, 1.25, 0.25)
    assert sample == given.row.sample


def test_an_ended_segment_is_removed_once_it_is_in_the_ledger(ledger, folder):
    written(folder, [entry(1)])
    assert waiting_bytes(folder) > 0
    assert take_in(ledger, folder) == 1
    assert list(folder.iterdir()) == []
    assert take_in(ledger, folder) == 0


def test_one_that_is_being_written_is_read_and_stays(ledger, folder):
    segment = Segment(folder)
    segment.append([entry(1)])
    assert take_in(ledger, folder) == 1
    segment.append([entry(2)])
    assert segment.path.exists()
    segment.close()
    assert take_in(ledger, folder) == 1
    assert count(ledger) == 2


@pytest.mark.parametrize("missing", [1, 7, 60])
def test_what_a_kill_cut_off_is_left_out(ledger, folder, missing):
    path = written(folder, [entry(1)], [entry(2)])
    os.truncate(path, path.stat().st_size - missing)
    assert take_in(ledger, folder) == 1
    assert list(folder.iterdir()) == []


def test_zeros_after_a_power_failure_are_no_prediction(ledger, folder):
    path = written(folder, [entry(1)])
    with path.open("ab") as file:
        file.write(bytes(500))
    assert take_in(ledger, folder) == 1
    assert list(folder.iterdir()) == []


def test_a_damaged_segment_is_kept_for_a_look_and_said_loudly(ledger, folder, caplog):
    path = written(folder, [entry(1)], [entry(2)], [entry(3)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    written(folder, [entry(4)])
    assert take_in(ledger, folder) == 2  # 1 and 4
    assert [one.suffix for one in folder.iterdir()] == [".damaged"]
    assert "is damaged after byte" in caplog.text


def test_several_at_once_add_each_prediction_once(ledger, folder):
    for start in range(0, 400, 20):
        written(folder, [entry(number, fault="nan") for number in range(start, start + 20)])
    threads = [threading.Thread(target=take_in, args=(ledger, folder)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(ledger) == 400
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(skips)).scalar_one() == 400
    assert list(folder.iterdir()) == []


def test_what_the_database_cannot_hold_is_set_aside_and_stops_no_other(ledger, folder):
    bad = entry(2)
    object.__setattr__(bad.row.prediction, "model_digest", None)
    written(folder, [entry(1), bad, entry(3)])
    assert take_in(ledger, folder) == 2
    with ledger.read() as connection:
        skip = connection.execute(select(skips)).one()
    assert skip.subject == f"prediction {bad.row.prediction.id}"
    assert skip.reason.startswith("not stored: ")


def test_while_the_ledger_fails_all_stays(ledger, folder):
    written(folder, [entry(1)])
    with ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions RENAME TO away")
    with pytest.raises(UnavailableError):
        take_in(ledger, folder)
    with ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO predictions")
    assert take_in(ledger, folder) == 1


def test_a_write_that_fails_leaves_no_half_of_it(ledger, folder, monkeypatch):
    segment = Segment(folder)
    segment.append([entry(1)])

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flywheel.ledger.segments.os.fdatasync", full)
    with pytest.raises(OSError, match="No space"):
        segment.append([entry(2)])
    monkeypatch.undo()
    segment.append([entry(3)])
    segment.close()
    assert take_in(ledger, folder) == 2


def test_nothing_is_written_into_a_file_that_is_gone(folder):
    segment = Segment(folder)
    segment.path.unlink()
    with pytest.raises(OSError, match="No such file"):
        segment.append([entry(1)])
