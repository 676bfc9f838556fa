"""Storage that is broken is noticed, and whatever is restored ends in one sentence."""

import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.errors import DamagedError, FlywheelError, SettingsError, UserError
from flywheel.ledger import Ledger
from flywheel.project import load_project
from flywheel.upkeep import back_up, machine, restore
from flywheel.upkeep.dumps import sqlite_fault

MUCH = ["predict", "gather", "label", "train", "release", "predict"]
SETTINGS = '[project]\nname = "past"\ntask = "none:task"\n[serve]\nport = 9\n'


def now():
    return datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def make_copy(tmp_path_factory):
    """Files -> a folder with them."""

    def copy(files):
        folder = tmp_path_factory.mktemp("copy")
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    return copy


@pytest.fixture(scope="session")
def read_files():
    def read(folder):
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return read


@pytest.fixture
def past(make_past):
    made = make_past().do(MUCH)
    (made.folder / "flywheel.toml").write_text(SETTINGS)
    made.ledger.close()
    with closing(sqlite3.connect(made.folder / ".flywheel/ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return made


def flipped(data: bytes, seed: int, number: int) -> bytes:
    found, chance = bytearray(data), random.Random(seed)
    for _ in range(number):
        found[chance.randrange(len(found))] ^= chance.randrange(1, 256)
    return bytes(found)


def one_sentence(error: FlywheelError) -> str:
    assert "Traceback" not in str(error)
    return str(error)


def test_a_back_up_is_one_that_a_restore_takes_or_there_is_none(
    past, make_copy, read_files, tmp_path
):
    """Of ledgers with 60 flipped bytes half made a "back-up" and half ended in a traceback."""
    files, outcomes = read_files(past.folder), set()
    for seed in range(12):
        ledger = flipped(files[".flywheel/ledger.db"], seed, 60)
        folder = make_copy(files | {".flywheel/ledger.db": ledger})
        target = tmp_path / f"kept {seed}"
        try:
            back_up(load_project(folder), target, now=now)
        except FlywheelError as error:
            one_sentence(error)
            assert not target.exists()
            outcomes.add("refused")
            continue
        restore(target, tmp_path / f"new {seed}", now=now)
        outcomes.add("made")
    assert "refused" in outcomes


@pytest.mark.parametrize("row", ["nights SET started_at = 'no time'", "reports SET record = '{'"])
def test_rows_that_hold_what_nobody_wrote_are_no_back_up(past, row, tmp_path):
    """The file is whole to SQLite; reading it ended in a traceback."""
    with closing(sqlite3.connect(past.folder / ".flywheel/ledger.db")) as connection:
        assert connection.execute(f"UPDATE {row}").rowcount > 0
        connection.commit()
    with pytest.raises(DamagedError, match="so no back-up was made"):
        back_up(load_project(past.folder), tmp_path / "kept", now=now)
    assert not (tmp_path / "kept").exists()


def test_forty_flipped_bytes_that_opening_does_not_read_are_a_finding_of_the_doctor(past):
    """The doctor said: the ledger opens."""
    path = past.folder / ".flywheel/ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'predictions'"
        start = size * (connection.execute(query).fetchone()[0] - 1)
    data = path.read_bytes()
    page = flipped(data[start : start + size], 1, 40)
    path.write_bytes(data[:start] + page + data[start + size :])
    Ledger.open(past.loop.project.ledger_url).close()
    finding, *_ = machine.ledger(past.loop.project)
    assert finding.status == "fail"
    assert "is damaged or cannot be read" in finding.line


def test_flipped_bytes_in_a_ledger_are_a_finding_of_the_doctor(past, make_copy, read_files):
    files = read_files(past.folder)
    for seed in range(8):
        damaged = flipped(files[".flywheel/ledger.db"], seed, 400)
        folder = make_copy(files | {".flywheel/ledger.db": damaged})
        (finding,) = machine.ledger(load_project(folder))
        assert finding.status == "fail"
        assert "is damaged or cannot be read" in finding.line


def test_a_flipped_byte_anywhere_in_a_back_up_is_refused(kept, make_copy, read_files, tmp_path):
    files = read_files(kept)
    for seed in range(25):
        name = "manifest.json" if seed < 5 else random.Random(seed).choice(sorted(files))
        folder = make_copy(files | {name: flipped(files[name], seed, 1)})
        with pytest.raises(UserError) as caught:
            restore(folder, tmp_path / "new", now=now)
        one_sentence(caught.value)
        assert not (tmp_path / "new").exists()


@pytest.fixture
def kept(past, tmp_path):
    return back_up(past.loop.project, tmp_path / "kept", now=now).path


WRONG = {
    "number": b'{"format": 1, "files": {"a": 5}}',
    "without blobs": b'{"format": 1, "files": {}}',
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "list": b"[]",
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "other format": b'{"format": {"a": 1}, "files": {}}',
    "surrogate": b'{"format": 1, "flywheel": "\\ud800"}',
    "outside": b'{"format": 1, "files": {"../a": ["x", 1]}}',
    "huge": b'{"format": 1, "files": {' + b" " * 16_000_001 + b"}}",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_manifest_that_is_none_ends_in_one_sentence(tmp_path, name):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(WRONG[name])
    with pytest.raises(UserError) as caught:
        restore(folder, tmp_path / "new", now=now)
    assert len(one_sentence(caught.value)) < 500
    assert not (tmp_path / "new").exists()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from(
            ["format", "flywheel", "project", "created_at", "files", "blobs", "missing"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_json_as_a_manifest_ends_in_one_sentence(tmp_path, manifest):
    folder = tmp_path / "kept"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError):
        restore(folder, tmp_path / "new", now=now)


@pytest.mark.parametrize("field", ["created_at", "project", "missing"])
def test_a_manifest_that_was_edited_is_refused(kept, tmp_path, field):
    """Its own hash covers what no hash of a file does."""
    path = kept / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest[field] = {"a" * 64: "gone"} if field == "missing" else "2020-01-01T00:00:00"
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="not what was written"):
        restore(kept, tmp_path / "new", now=now)


def test_every_blob_with_a_flipped_byte_is_missing_in_a_back_up(
    past, make_copy, read_files, tmp_path
):
    files = read_files(past.folder)
    blobs = [name for name in sorted(files) if "/blobs/" in name]
    damaged = {name: flipped(files[name], seed, 1) for seed, name in enumerate(blobs)}
    done = back_up(load_project(make_copy(files | damaged)), tmp_path / "kept", now=now)
    assert done.num_blobs == 0
    assert done.missing.keys() == {name.rpartition("/")[2] for name in blobs}


def test_a_folder_that_is_no_back_up_is_refused_before_anything_is_copied(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/large").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"no manifest\.json"):
        restore(tmp_path / "kept", tmp_path / "new", now=now)
    assert not (tmp_path / "new").exists()


def test_weights_with_one_flipped_byte_are_a_finding(past, make_copy, read_files):
    files = read_files(past.folder)
    digest = list(machine.ledger(load_project(past.folder)))
    assert [finding.status for finding in digest if finding.check == "weights"] == []
    blobs = {name: flipped(data, 1, 1) for name, data in files.items() if "/blobs/" in name}
    folder = make_copy(files | blobs)
    found = [one for one in machine.ledger(load_project(folder)) if one.check == "weights"]
    assert found[0].status == "fail"
    assert "cannot serve" in found[0].line


def test_a_ledger_that_was_cut_to_nothing_is_not_begun_anew(past, make_copy, read_files):
    folder = make_copy(read_files(past.folder) | {".flywheel/ledger.db": b""})
    os.utime(folder / ".flywheel/ledger.db", (0, 0))
    with pytest.raises(DamagedError, match="0 bytes: it was cut off"):
        Ledger.open(load_project(folder).ledger_url)


def test_there_is_no_back_up_of_nothing_and_no_ledger_is_made(tmp_path):
    (tmp_path / "flywheel.toml").write_text(SETTINGS)
    with pytest.raises(UserError, match="no ledger yet"):
        back_up(load_project(tmp_path), tmp_path / "kept", now=now)
    assert [path.name for path in tmp_path.iterdir()] == ["flywheel.toml"]


def test_the_check_changes_nothing(past):
    path = past.folder / ".flywheel/ledger.db"
    before = path.read_bytes()
    assert sqlite_fault(path) is None
    assert sqlite_fault(path, thorough=True) is None
    assert path.read_bytes() == before
    assert sqlite_fault(path.with_name("none.db")) == "unable to open database file"


@pytest.mark.parametrize(
    "name", ["R&D #2", "a[b]c", "50% off", "x::y", "it's", "a\nb", "-x", "$(id);", "ü 漢", "a%3Fb"]
)
def test_a_folder_with_signs_has_its_own_ledger_and_blobs(past, tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(past.folder, folder)
    project = load_project(folder)
    back_up(project, tmp_path / f"kept {name}", now=now)
    restored = restore(tmp_path / f"kept {name}", tmp_path / f"new {name}", now=now)
    assert restored.num_blobs > 0
    assert next(machine.ledger(restored.project)).status == "ok"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"kept {name}", f"new {name}"}


def test_a_folder_whose_name_would_cut_the_ledgers_address_is_refused(tmp_path):
    """The ledger of `what?` lay in a file `what` beside it."""
    (tmp_path / "what?").mkdir()
    (tmp_path / "what?/flywheel.toml").write_text(SETTINGS)
    with pytest.raises(SettingsError, match="Rename the folder"):
        load_project(tmp_path / "what?")
    elsewhere = SETTINGS + '[storage]\nledger = "sqlite:////srv/ledger.db"\n'
    (tmp_path / "what?/flywheel.toml").write_text(elsewhere)
    assert load_project(tmp_path / "what?").ledger_url == "sqlite:////srv/ledger.db"
