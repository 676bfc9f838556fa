import os
import subprocess
import sys
import threading
from uuid import uuid4

import pytest

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, SettingsError, UnknownIdError
from flywheel.records import content_id

KILLED_BEFORE_THE_RENAME = """
import os, sys
from pathlib import Path
from flywheel.blobs import Blobs
Path.replace = lambda self, target: os.kill(os.getpid(), 9)
Blobs.open(sys.argv[1]).put(b"half")
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture(params=["folder", "memory"])
def blobs(request, folder):
    return Blobs.open(str(folder) if request.param == "folder" else f"memory://{uuid4()}")


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_many_are_got_at_once_and_a_missing_one_is_named(blobs):
    digests = blobs.put_all([b"one", b"two", b"three"])
    assert blobs.get_all(digests) == dict(zip(digests, [b"one", b"two", b"three"], strict=True))
    assert blobs.get_all(digests[:1]) == {digests[0]: b"one"}
    assert blobs.get_all([]) == {}
    missing = content_id(b"nobody put it")
    with pytest.raises(UnknownIdError, match=f"no blob {missing}"):
        blobs.get_all([*digests, missing])


def test_what_is_put_is_there_under_its_hash(blobs):
    digest = blobs.put(b"payload")
    assert digest == content_id(b"payload")
    assert blobs.get(digest) == b"payload"
    assert digest in blobs
    assert content_id(b"other") not in blobs


def test_many_come_back_in_their_order_with_copies_and_nothing(blobs):
    assert blobs.put_all([b"b", b"a", b"b", b""]) == [
        content_id(x) for x in (b"b", b"a", b"b", b"")
    ]
    assert blobs.get(content_id(b"")) == b""


def test_a_missing_blob_is_an_error_that_names_it(blobs):
    with pytest.raises(UnknownIdError, match=rf"no blob {'0' * 64} in .*moved or emptied"):
        blobs.get("0" * 64)


def test_put_twice_is_one_file(folder):
    blobs = Blobs.open(str(folder))
    blobs.put(b"payload")
    blobs.put(b"payload")
    assert [path.name for path in files(folder)] == [content_id(b"payload")]


def test_a_blob_that_rotted_is_not_given_out(folder):
    blobs = Blobs.open(str(folder))
    digest = blobs.put(b"payload")
    (path,) = files(folder)
    path.write_bytes(b"paylOad")
    with pytest.raises(FlywheelError, match="not its name; restore the file from a back-up"):
        blobs.get(digest)


def test_writers_of_the_same_blob_do_not_disturb_each_other(folder):
    blobs, data = Blobs.open(str(folder)), b"x" * 1_000_000
    threads = [threading.Thread(target=blobs.put, args=[data]) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert blobs.get(content_id(data)) == data
    assert len(files(folder)) == 1


def test_a_writer_that_is_killed_before_the_rename_leaves_nothing_to_be_seen(folder):
    command = [sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(folder)]
    assert subprocess.run(command, check=False).returncode == -9
    blobs = Blobs.open(str(folder))
    assert content_id(b"half") not in blobs
    assert blobs.get(blobs.put(b"half")) == b"half"


def test_a_write_that_fails_leaves_no_draft(folder, monkeypatch):
    """A full disk filled up with drafts."""
    blobs = Blobs.open(str(folder))
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(OSError, match="No space"):
        blobs.put(b"payload")
    assert files(folder) == []


def _no_space(_descriptor):
    raise OSError(28, "No space left on device")


def test_a_new_folder_is_made_durable_with_the_blob_in_it(folder, monkeypatch):
    """Only the inner folder was: a power cut could take it with all that it held."""
    blobs, synced = Blobs.open(str(folder)), []
    monkeypatch.setattr("flywheel.blobs.sync", synced.append)
    digest = blobs.put(b"payload")
    assert {folder, folder / digest[:2]} <= set(synced)


def test_a_file_system_whose_name_only_contains_file_is_not_this_machines_disk(tmp_path):
    """Blobs of filecache:: went to the local disk beside the store."""
    place = f"memory://{uuid4()}"
    blobs = Blobs.open(f"filecache::{place}")
    assert blobs.get(blobs.put(b"payload")) == b"payload"
    assert content_id(b"payload") in Blobs.open(place)


@pytest.mark.parametrize("url", ["nosuch://bucket", "{tmp_path}/file/blobs"])
def test_a_place_that_cannot_be_opened_is_a_settings_error_with_places_that_can(tmp_path, url):
    (tmp_path / "file").write_text("")
    url = url.format(tmp_path=tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be opened: .*choose a folder") as caught:
        Blobs.open(url)
    assert repr(url) in str(caught.value)
