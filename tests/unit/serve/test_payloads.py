import shutil

import pytest

from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.records import content_id
from flywheel.serve.journal import Journal, read_journal
from flywheel.serve.payloads import Payloads

PAYLOADS = [b"one", b"", b"three" * 1000]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def payloads(blobs, folder):
    kept = Payloads(blobs, folder)
    yield kept
    kept.close()


def path_of(blobs_folder, payload):
    digest = content_id(payload)
    return blobs_folder / digest[:2] / digest


@pytest.fixture
def crashed(project, blobs, folder):
    """A process that died after it kept the payloads: its journal is still there."""
    Payloads(blobs, folder).keep(PAYLOADS)
    return project.state / "blobs"


def test_what_is_kept_is_among_the_blobs_at_once(payloads, blobs):
    payloads.keep(PAYLOADS)
    assert [blobs.get(content_id(payload)) for payload in PAYLOADS] == PAYLOADS


def test_what_is_kept_is_in_a_journal_until_the_blobs_are_on_the_disk(blobs, folder):
    payloads = Payloads(blobs, folder)
    payloads.keep(PAYLOADS[:1])
    payloads.keep(PAYLOADS[1:])
    (journal,) = folder.iterdir()
    assert list(read_journal(journal)) == PAYLOADS
    payloads.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("left", [None, b"", b"on"])
def test_a_blob_that_a_power_cut_lost_or_tore_comes_back_at_the_next_start(
    crashed, blobs, folder, left
):
    path = path_of(crashed, b"one")
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    Payloads(blobs, folder).close()
    assert blobs.get(content_id(b"one")) == b"one"
    assert list(folder.iterdir()) == []


def test_a_journal_that_was_cut_short_gives_back_what_is_whole(crashed, blobs, folder):
    (journal,) = folder.iterdir()
    journal.write_bytes(journal.read_bytes()[:-1])
    assert list(read_journal(journal)) == PAYLOADS[:2]
    Payloads(blobs, folder).close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("torso", [b"", b"x", b"\xff" * 40, b"\0" * 100])
def test_a_journal_of_garbage_gives_nothing_and_no_error(tmp_path, torso):
    path = tmp_path / "a.journal"
    path.write_bytes(torso)
    assert list(read_journal(path)) == []


def test_a_large_payload_goes_straight_to_the_blobs(payloads, blobs, folder):
    large = b"x" * 300_000
    payloads.keep([large])
    assert blobs.get(content_id(large)) == large
    assert not folder.exists()


def test_a_store_that_is_no_disk_needs_no_journal(folder):
    blobs = Blobs.open("memory://payloads")
    Payloads(blobs, folder).keep(PAYLOADS)
    assert blobs.get(content_id(b"one")) == b"one"
    assert not folder.exists()


def test_a_journal_folder_that_was_deleted_is_made_anew(payloads, folder):
    payloads.keep([b"before"])
    shutil.rmtree(folder)
    payloads.keep([b"after"])
    (journal,) = folder.iterdir()
    assert list(read_journal(journal)) == [b"after"]


def test_a_disk_that_fails_is_told_and_the_next_payload_gets_a_journal_of_its_own(
    payloads, folder, monkeypatch
):
    def fail(self, batch):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", fail)
        with pytest.raises(UnavailableError, match="No space left"):
            payloads.keep([b"before"])
    payloads.keep([b"after"])
    assert list(read_journal(payloads._journal.path)) == [b"after"]


def test_a_full_journal_is_dropped_and_the_next_begins(payloads, folder, monkeypatch):
    monkeypatch.setattr("flywheel.serve.payloads._JOURNAL_BYTES", 10)
    payloads.keep([b"a first one"])
    payloads.keep([b"a second one"])
    payloads.close()
    assert list(folder.iterdir()) == []
