import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.exc import StatementError

from flywheel.errors import SettingsError, UnavailableError
from flywheel.ledger import Ledger, engine
from flywheel.ledger.engine import _NOTICED, _noticing
from flywheel.ledger.nights import finish_night, last_night, open_night
from flywheel.ledger.tables import metadata, watermarks

WRITER = """
import sys
from sqlalchemy import insert
from flywheel.ledger import Ledger
from flywheel.ledger.tables import watermarks
ledger = Ledger.open(sys.argv[1])
for number in range(50):
    with ledger.begin() as connection:
        connection.execute(insert(watermarks), {"name": f"{sys.argv[2]} {number}", "seq": number})
"""


def url(tmp_path):
    return f"sqlite:///{tmp_path}/ledger.db"


def pragma(ledger, name):
    with ledger.read() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_the_migrated_schema_is_that_of_the_tables(ledger):
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_sqlite_writes_ahead_waits_for_the_disk_and_checks_foreign_keys(as_opened, ledger):
    assert pragma(ledger, "journal_mode") == "wal"
    assert pragma(ledger, "synchronous") == 2
    assert pragma(ledger, "foreign_keys") == 1


def test_a_ledger_keeps_what_it_had_when_it_is_opened_again(tmp_path, production):
    with closing(Ledger.open(url(tmp_path))) as first, first.begin() as connection:
        open_night(connection, production.now)
    with closing(Ledger.open(url(tmp_path))) as second, second.read() as connection:
        assert last_night(connection).number == 1


def test_two_processes_that_open_a_new_ledger_and_write_at_once_both_succeed(tmp_path):
    command = [sys.executable, "-c", WRITER, url(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with closing(Ledger.open(url(tmp_path))) as ledger, ledger.read() as connection:
        assert len(connection.execute(select(watermarks)).all()) == 100


def test_threads_that_read_before_they_write_do_not_lose_each_others_counts(ledger):
    with ledger.begin() as connection:
        connection.execute(insert(watermarks), {"name": "count", "seq": 0})

    def count():
        for _ in range(20):
            with ledger.begin() as connection:
                seq = connection.execute(select(watermarks.c.seq)).scalar()
                connection.execute(watermarks.update().values(seq=seq + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    with ledger.read() as connection:
        assert connection.execute(select(watermarks.c.seq)).scalar() == 80


def test_a_reader_sees_the_last_commit_while_a_writer_is_at_work(ledger, production):
    with ledger.begin() as writing:
        open_night(writing, production.now)
        with ledger.read() as reading:
            assert last_night(reading) is None


def test_a_ledger_opens_while_a_writer_is_at_work(ledger, tmp_path, monkeypatch):
    """It asked for its version as a writer, and so waited 30 seconds and failed."""
    monkeypatch.setattr("flywheel.ledger.engine._BUSY_SECONDS", 0)
    with ledger.begin():
        Ledger.open(url(tmp_path)).close()


def test_an_error_in_a_transaction_leaves_nothing(ledger, production):
    with suppress(ZeroDivisionError), ledger.begin() as connection:
        open_night(connection, production.now)
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert last_night(connection) is None


def test_a_time_without_a_zone_is_refused(ledger):
    with pytest.raises(StatementError, match="has no time zone"), ledger.begin() as connection:
        open_night(connection, datetime(2026, 1, 1))  # noqa: DTZ001  # what is tested


def test_times_come_back_as_the_moments_that_they_were(ledger):
    moment = datetime.fromisoformat("2026-10-25T02:30:00.123456+02:00")
    with ledger.begin() as connection:
        open_night(connection, moment)
        finish_night(connection, 1, moment)
        night = last_night(connection)
    assert (night.started_at, night.finished_at) == (moment, moment)
    assert night.started_at.tzinfo is not None


@pytest.mark.parametrize("wrong", ["no url", "nosuchdb://host/name", "mysql+nosuch://x/y"])
def test_a_url_that_names_no_database_is_a_settings_error_with_one_that_does(wrong):
    with pytest.raises(SettingsError, match=r"sqlite:///\.flywheel/ledger\.db"):
        Ledger.open(wrong)


def test_a_folder_that_cannot_be_made_is_a_settings_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file/ledger\.db cannot be created.*choose a folder"):
        Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db")


def test_a_file_that_is_no_database_is_a_settings_error_and_stays_as_it_is(tmp_path):
    """A traceback of the driver came out."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"holiday pictures" * 1_000)
    with pytest.raises(SettingsError, match="is no ledger: file is not a database; name another"):
        Ledger.open(url(tmp_path))
    assert path.read_bytes() == b"holiday pictures" * 1_000


def test_a_folder_in_place_of_the_file_is_reported(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(UnavailableError, match="check that its folder can be written"):
        Ledger.open(url(tmp_path))


@pytest.mark.parametrize("revision", ["9999", "0017"])
def test_a_ledger_of_a_revision_that_is_not_known_is_left_alone(tmp_path, revision):
    """A traceback of Alembic came out."""
    with closing(Ledger.open(url(tmp_path))) as ledger, ledger.begin() as connection:
        set_revision(connection, revision)
    with pytest.raises(SettingsError, match=rf"another version.*{revision}.*Install the version"):
        Ledger.open(url(tmp_path))


def test_a_new_ledger_has_the_tables_as_they_are(tmp_path):
    with closing(Ledger.open(url(tmp_path))) as ledger, ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


NEXT = """
from alembic import op
revision, down_revision = "9999", "{head}"
def upgrade():
    op.execute("ALTER TABLE nights ADD COLUMN mood VARCHAR")
"""


def test_a_ledger_that_is_there_is_migrated_and_keeps_its_rows(tmp_path, monkeypatch):
    with closing(Ledger.open(url(tmp_path))) as ledger, ledger.begin() as connection:
        connection.execute(insert(watermarks), {"name": "kept", "seq": 7})
    migrations = shutil.copytree(engine._MIGRATIONS, tmp_path / "migrations")
    (migrations / "versions" / "9999_next.py").write_text(NEXT.format(head=engine._head()))
    monkeypatch.setattr(engine, "_MIGRATIONS", migrations)
    monkeypatch.setattr(engine, "_head", engine._head.__wrapped__)  # it is kept for the process
    with closing(Ledger.open(url(tmp_path))) as ledger, ledger.read() as connection:
        assert connection.execute(text("SELECT mood FROM nights")).all() == []
        assert connection.execute(select(watermarks.c.seq)).scalar_one() == 7


def test_a_database_with_tables_of_others_by_our_names_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("CREATE TABLE nights (price)")
    with pytest.raises(UnavailableError, match="table nights already exists"):
        Ledger.open(url(tmp_path))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("nights",)]


def set_revision(connection, revision):
    connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_is_not_reported():
    with pytest.raises(UnavailableError, match="or that its server runs") as caught:
        Ledger.open("postgresql+psycopg://user:hidden@127.0.0.1:1/name")
    assert "hidden" not in str(caught.value)


def test_a_server_that_takes_a_call_and_says_nothing_is_unavailable_too(monkeypatch):
    monkeypatch.setitem(_NOTICED, "connect_timeout", 2)  # the least that libpq knows
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UnavailableError, match="timeout"),
    ):
        Ledger.open(f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/name")


def test_an_option_in_the_url_goes_before_ours():
    theirs = make_url("postgresql+psycopg://host/name?connect_timeout=3")
    assert _noticing(theirs) == {k: v for k, v in _NOTICED.items() if k != "connect_timeout"}
    assert _noticing(make_url("postgresql+pg8000://host/name")) == {}


def test_a_ledger_that_fails_says_so_in_one_line_without_the_values(ledger):
    fill = text("CREATE TABLE big AS SELECT :secret AS one")
    pragma(ledger, "max_page_count = 1")
    with pytest.raises(UnavailableError, match="disk has room") as caught, ledger.begin() as sick:
        sick.execute(fill, {"secret": "x" * 99_999})
    assert "database or disk is full" in str(caught.value)
    assert "xxx" not in str(caught.value)
    assert "\n" not in str(caught.value)
