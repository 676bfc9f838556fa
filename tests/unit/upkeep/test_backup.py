"""A back-up comes back byte for byte, or is refused while everything stays as it is."""

import json
import shutil
import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from flywheel.errors import BusyError, UnavailableError, UserError
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import add_trained
from flywheel.ledger.retention import named_payloads
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import decisions, metadata, predictions, samples
from flywheel.upkeep import back_up, restore

MUCH = ["predict", "gather", "label", "train", "release", "predict"]
SETTINGS = '[project]\nname = "past"\ntask = "none:task"\n[serve]\nport = 9\n'


def now():
    return datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def past(make_past):
    made = make_past().do(MUCH)
    (made.folder / "flywheel.toml").write_text(SETTINGS)
    (made.folder / "none.py").write_text("task = None\n")
    (made.folder / ".env").write_text("FLYWHEEL_SERVER_TOKEN=never-copied\n")
    yield made
    made.ledger.close()


@pytest.fixture
def kept(past, tmp_path):
    """A back-up."""
    return back_up(past.loop.project, tmp_path / "kept", now=now).path


def facts(url):
    ledger = Ledger.open(url)
    with ledger.read() as connection:
        found = {
            table.name: set(map(repr, connection.execute(select(table))))
            for table in metadata.sorted_tables
            if table.name != "locks"
        }
    ledger.close()
    return found


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_comes_back_is_what_was_there(past, kept, tmp_path):
    done = restore(kept, tmp_path / "new", now=now)
    assert facts(done.project.ledger_url) == facts(past.loop.project.ledger_url)
    assert (tmp_path / "new/none.py").read_text() == "task = None\n"
    assert not (tmp_path / "new/.flywheel-restoring").exists()


def test_every_sample_has_its_bytes_again(past, kept, tmp_path):
    done = restore(kept, tmp_path / "new", now=now)
    ledger = Ledger.open(done.project.ledger_url)
    blobs = type(past.blobs).open(done.project.blobs_url)
    with ledger.read() as connection:
        ids = list(connection.execute(select(samples.c.id)).scalars())
        assert len(load_samples(connection, blobs, ids)) == len(ids) > 0
    ledger.close()


def test_a_sample_that_is_a_group_of_its_own_and_has_trained_is_copied_once(past, tmp_path):
    with past.ledger.begin() as connection:
        ids = list(named_payloads(connection))
        add_trained(connection, ids, 1)
    done = back_up(past.loop.project, tmp_path / "kept", now=now)
    assert sum(path.name in ids for path in done.path.rglob("*")) == len(ids) > 2


def test_hidden_files_and_secrets_are_left_out_and_reported(past, tmp_path):
    (past.loop.project.state / "secrets.json").write_text("{}")
    done = back_up(past.loop.project, tmp_path / "kept", now=now)
    names = {path.name for path in done.path.rglob("*")}
    assert names.isdisjoint({".env", "secrets.json"})
    assert "--with-secrets" in done.left_out[0]


def test_with_secrets_they_come_back_for_their_owner_only(past, tmp_path):
    state = past.loop.project.state
    (state / "secrets.json").write_text("{}")
    (state / "label-studio/media").mkdir(parents=True)
    (state / "label-studio/media/a.png").write_bytes(b"png")
    sqlite3.connect(state / "label-studio/label_studio.sqlite3").execute("CREATE TABLE t (x)")
    kept = back_up(past.loop.project, tmp_path / "kept", now=now, with_secrets=True).path
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "secrets.json").stat().st_mode & 0o777 == 0o600
    restored = restore(kept, tmp_path / "new", now=now).project.state
    assert (restored / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (restored / "label-studio/media/a.png").read_bytes() == b"png"


def test_a_back_up_never_overwrites(past, kept):
    with pytest.raises(UserError, match="exists already; give a new name"):
        back_up(past.loop.project, kept, now=now)


def test_a_back_up_that_fails_leaves_nothing_behind(past, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flywheel.upkeep.backup._add_files", full)
    with pytest.raises(OSError, match="No space left"):
        back_up(past.loop.project, tmp_path / "there" / "kept", now=now)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_blob_that_is_lost_is_reported_and_the_rest_is_kept(past, tmp_path):
    with past.ledger.read() as connection:
        digest = connection.execute(select(samples.c.id)).scalars().first()
    (past.folder / ".flywheel/blobs" / digest[:2] / digest).unlink()
    done = back_up(past.loop.project, tmp_path / "kept", now=now)
    assert list(done.missing) == [digest]
    assert list(restore(done.path, tmp_path / "new", now=now).missing) == [digest]


def test_blobs_that_do_not_answer_make_no_back_up(past, tmp_path, monkeypatch):
    def silent(*_):
        raise UnavailableError("the blob store does not answer")

    monkeypatch.setattr("flywheel.blobs.Blobs.get", silent)
    with pytest.raises(UnavailableError, match="blob store"):
        back_up(past.loop.project, tmp_path / "kept", now=now)
    assert not (tmp_path / "kept").exists()


def test_while_predictions_are_written_nothing_that_is_named_is_missing(past, tmp_path):
    ended = threading.Event()

    def write():
        while not ended.is_set():
            past.predict()

    writer = threading.Thread(target=write)
    writer.start()
    kept = back_up(past.loop.project, tmp_path / "kept", now=now)
    ended.set()
    writer.join()
    assert kept.missing == {}
    url = restore(kept.path, tmp_path / "new", now=now).project.ledger_url
    assert facts(url)["predictions"] < facts(past.loop.project.ledger_url)["predictions"]


def cut(kept):
    path = kept / "ledger.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(kept):
    data = bytearray((kept / "ledger.db").read_bytes())
    data[data.index(b"CREATE TABLE predictions")] ^= 1
    (kept / "ledger.db").write_bytes(data)


def flip_blob(kept):
    path = next((kept / "blobs").glob("*/*"))
    path.write_bytes(path.read_bytes() + b"X")


def lose_blob(kept):
    next((kept / "blobs").glob("*/*")).unlink()


def add_file(kept):
    (kept / "project/more.py").write_text("x = 1\n")


def cut_manifest(kept):
    data = (kept / "manifest.json").read_bytes()
    (kept / "manifest.json").write_bytes(data[: data.rindex(b'"format"')])


@pytest.mark.parametrize("spoil", [cut, flip, flip_blob, lose_blob, add_file, cut_manifest])
def test_a_spoiled_back_up_is_refused_and_what_is_there_stays(past, tmp_path, spoil):
    kept = back_up(past.loop.project, tmp_path / "kept", now=now).path
    spoil(kept)
    past.ledger.close()
    before = everything(past.folder)
    with pytest.raises(UserError, match=r"[Uu]se another back-up"):
        restore(kept, past.folder, now=now, force=True)
    assert everything(past.folder) == before


def test_what_is_no_folder_is_no_back_up(tmp_path):
    (tmp_path / "kept.zip").write_bytes(b"x")
    with pytest.raises(UserError, match="is not a folder; give the one that flywheel backup wrote"):
        restore(tmp_path / "kept.zip", tmp_path / "new", now=now)
    assert not (tmp_path / "new").exists()


def test_a_later_format_names_the_flywheel_that_wrote_it(kept, tmp_path):
    manifest = json.loads((kept / "manifest.json").read_text()) | {"format": 2, "flywheel": "9.0"}
    (kept / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"install flywheel 9\.0"):
        restore(kept, tmp_path / "new", now=now)


def test_what_is_there_is_replaced_only_with_force_and_then_kept_aside(past, kept):
    past.ledger.close()
    (past.folder / "none.py").write_text("task = 'changed'\n")
    with pytest.raises(UserError, match="--force"):
        restore(kept, past.folder, now=now)
    done = restore(kept, past.folder, now=now, force=True)
    assert (past.folder / "none.py").read_text() == "task = None\n"
    assert (done.aside / "none.py").read_text() == "task = 'changed'\n"
    assert (done.aside / ".flywheel/ledger.db").exists()


def test_settings_of_this_machine_may_stay(past, kept, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/flywheel.toml").write_text(SETTINGS.replace("port = 9", "port = 19"))
    done = restore(kept, tmp_path / "new", now=now, keep_settings=True)
    assert done.project.serve.port == 19


def test_a_ledger_that_is_open_is_not_replaced(past, kept):
    with past.ledger.read() as connection:
        connection.execute(select(predictions.c.id)).first()
        with pytest.raises(BusyError, match="is in use"):
            restore(kept, past.folder, now=now, force=True)


def test_when_putting_in_fails_all_is_as_before(past, kept, monkeypatch):
    past.ledger.close()
    before = everything(past.folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flywheel.upkeep.restoring._put_in", full)
    with pytest.raises(OSError, match="No space left"):
        restore(kept, past.folder, now=now, force=True)
    assert everything(past.folder) == before


def test_a_draft_of_a_killed_back_up_is_no_back_up(past, kept, tmp_path):
    draft = tmp_path / ".half.partial"
    shutil.copytree(kept, draft)
    (draft / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"[Uu]se another back-up"):
        restore(draft, tmp_path / "new", now=now)


def test_locks_do_not_come_back(past, tmp_path):
    kept = back_up(past.loop.project, tmp_path / "kept", now=now).path  # holds one itself
    url = restore(kept, tmp_path / "new", now=now).project.ledger_url
    with Ledger.open(url).read() as connection:
        assert connection.execute(select(metadata.tables["locks"])).all() == []
        assert connection.execute(select(decisions)).all() != []
