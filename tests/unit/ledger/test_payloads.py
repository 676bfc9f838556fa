"""Small payloads wait in the ledger, durable with their prediction, until they are moved."""

from datetime import UTC, datetime

import pytest

from flywheel.blobs import Blobs
from flywheel.ledger.samples import (
    Placed,
    add_samples,
    keep_payloads,
    kept_payloads,
    load_samples,
    move_payloads,
)
from flywheel.records import Sample, Split

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLES = [Sample.of(payload, "a/b") for payload in (b"one", b"", b"three" * 1000)]
IDS = [sample.id for sample in SAMPLES]
LARGE = Sample.of(b"x" * 300_000, "a/b")


@pytest.fixture
def blobs(tmp_path):
    return Blobs.open(str(tmp_path / "blobs"))


@pytest.fixture
def keep(ledger):
    def store(*samples):
        with ledger.begin() as connection:
            add_samples(connection, [Placed(one, "g", Split.TRAIN) for one in samples], NOW)
            keep_payloads(connection, samples)

    return store


def loaded(ledger, blobs, sample_ids):
    with ledger.read() as connection:
        return load_samples(connection, blobs, sample_ids)


def kept(ledger, sample_ids):
    with ledger.read() as connection:
        return kept_payloads(connection, sample_ids)


def test_a_payload_can_be_read_before_it_is_moved_and_after(ledger, blobs, keep):
    keep(*SAMPLES)
    assert loaded(ledger, blobs, IDS[::-1]) == SAMPLES[::-1]
    assert move_payloads(ledger, blobs) == 3
    assert kept(ledger, IDS) == {}
    assert loaded(ledger, blobs, IDS) == SAMPLES


def test_more_than_one_piece_is_moved_and_nothing_twice(ledger, blobs, keep, monkeypatch):
    monkeypatch.setattr("flywheel.ledger.samples._PIECE", 2)
    keep(*SAMPLES)
    assert move_payloads(ledger, blobs) == 3
    assert move_payloads(ledger, blobs) == 0
    assert all(sample_id in blobs for sample_id in IDS)


def test_a_large_payload_is_left_to_the_blobs(ledger, blobs, keep):
    blobs.put(LARGE.payload)
    keep(LARGE, SAMPLES[0])
    assert list(kept(ledger, [LARGE.id, IDS[0]])) == [IDS[0]]
    assert loaded(ledger, blobs, [LARGE.id, IDS[0]]) == [LARGE, SAMPLES[0]]


def test_a_payload_that_comes_again_is_kept_once_and_moved_again(ledger, blobs, keep):
    keep(SAMPLES[0])
    keep(SAMPLES[0], SAMPLES[0])
    assert move_payloads(ledger, blobs) == 1
    keep(SAMPLES[0])
    assert move_payloads(ledger, blobs) == 1
    assert loaded(ledger, blobs, IDS[:1]) == SAMPLES[:1]


def test_blobs_that_cannot_be_written_leave_all_payloads_in_the_ledger(
    ledger, blobs, keep, monkeypatch
):
    keep(*SAMPLES)

    def fail(_blobs, _payloads):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Blobs, "put_all", fail)
    with pytest.raises(OSError, match="No space left"):
        move_payloads(ledger, blobs)
    assert loaded(ledger, blobs, IDS) == SAMPLES


def test_a_kill_between_the_blobs_and_the_ledger_is_mended_by_moving_again(ledger, blobs, keep):
    keep(*SAMPLES)
    blobs.put_all(sample.payload for sample in SAMPLES)
    assert move_payloads(ledger, blobs) == 3
    assert loaded(ledger, blobs, IDS) == SAMPLES
