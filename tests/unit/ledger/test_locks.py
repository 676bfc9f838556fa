import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import OperationalError

from flywheel.errors import BusyError, UnavailableError
from flywheel.ledger.locks import hold, holder_of
from flywheel.ledger.tables import locks

HOLDER = """
import os, sys, time
from datetime import UTC, datetime
from flywheel.ledger import Ledger, locks
with locks.hold(Ledger.open(sys.argv[1]), "the loop", lambda: datetime.now(UTC)):
    if not sys.argv[2]:
        print(1, flush=True)
    elif not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def take(ledger, production):
    return lambda name="the loop", **more: hold(ledger, name, lambda: production.now, **more)


@pytest.fixture
def start(ledger):
    """Starts a process of its own that holds the lock; with a child that it forks, if wanted."""
    started, children = [], []

    def run(forks="", seconds=60.0):
        url = ledger.engine.url.render_as_string()
        command = [sys.executable, "-c", HOLDER, url, forks, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        children.append(int(process.stdout.readline()))
        return process

    yield run
    for process, child in zip(started, children, strict=True):
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(ProcessLookupError):
            _ = child > 1 and os.kill(child, signal.SIGKILL)


def holders(ledger):
    with ledger.read() as connection:
        return list(connection.execute(select(locks.c.holder)).scalars())


def holder(ledger):
    with ledger.read() as connection:
        return holder_of(connection, "the loop")


def test_a_living_holder_is_named_and_keeps_its_lock(take, start, ledger):
    process = start()
    for patience in (0.0, 0.3):
        said = rf"the loop is held by .*:{process.pid}:.* since 20.*wait"
        with pytest.raises(BusyError, match=said), take(patience_seconds=patience):
            pass
    assert f":{process.pid}:" in holder(ledger)


@pytest.mark.parametrize("forks", ["", "a child"])
def test_the_lock_of_a_process_that_was_killed_is_free_at_once(take, start, ledger, forks):
    process = start(forks)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holder(ledger) is None
    with take():
        assert f":{os.getpid()}:" in holder(ledger)
    assert holders(ledger) == []


def test_a_lock_is_free_after_its_block_and_after_an_error_in_it(take, ledger):
    with suppress(ZeroDivisionError), take():
        assert holder(ledger) == holders(ledger)[0]
        raise ZeroDivisionError
    assert holders(ledger) == []
    assert holder(ledger) is None


def test_a_ledger_that_fails_at_the_end_of_a_block_hides_nothing_of_it(take, ledger, caplog):
    def fail(_connection):
        raise OperationalError("BEGIN", {}, Exception("disk is full"))

    with suppress(ZeroDivisionError), take():
        event.listen(ledger.engine, "begin", fail)
        raise ZeroDivisionError
    event.remove(ledger.engine, "begin", fail)
    assert "the loop is free, but its last holder stays in the ledger" in caplog.text
    assert holder(ledger) is None
    with take():
        pass


def test_a_ledger_that_fails_when_a_lock_is_taken_leaves_it_free(take, ledger):
    def fail(_connection):
        raise OperationalError("BEGIN", {}, Exception("disk is full"))

    event.listen(ledger.engine, "begin", fail)
    with pytest.raises(UnavailableError, match="disk is full"), take():
        pass
    event.remove(ledger.engine, "begin", fail)
    with take():
        pass


def test_a_full_disk_is_not_waited_for_as_long_as_a_holder_is(take, ledger, monkeypatch, caplog):
    """With a full disk a night waited for twelve hours before it trained, without a word."""

    def fail(_connection):
        raise OperationalError("BEGIN", {}, Exception("disk is full"))

    monkeypatch.setattr("flywheel.ledger.locks._OUTAGE_SECONDS", 0.5)
    event.listen(ledger.engine, "begin", fail)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match="disk is full"), take(patience_seconds=600.0):
        pass
    event.remove(ledger.engine, "begin", fail)
    assert time.monotonic() - begun < 60
    assert "disk is full" in caplog.text
    assert "waits up to 0 s" in caplog.text


def test_a_process_may_enter_its_own_lock_again_and_the_outer_block_keeps_it(take, ledger):
    with take():
        with take():
            pass
        assert len(holders(ledger)) == 1
    assert holders(ledger) == []


def test_a_thread_that_waits_enters_what_its_process_holds(take):
    entered = threading.Event()

    def enter():
        with take(patience_seconds=10):
            entered.set()

    with take():
        thread = threading.Thread(target=enter)
        thread.start()
        assert entered.wait(5)
    thread.join()


def test_two_locks_do_not_know_each_other(take, ledger):
    with take("the loop"), take("the stack"):
        assert len(holders(ledger)) == 2


def test_who_is_patient_has_the_lock_as_soon_as_it_is_free(take, start, ledger):
    process = start(seconds=1.0)
    begun = time.monotonic()
    with take(patience_seconds=60.0):
        assert f":{os.getpid()}:" in holder(ledger)
    assert time.monotonic() - begun < 20
    assert process.wait() == 0


def test_a_row_without_a_lock_holds_nobody_up(take, ledger):
    row = {"name": "the loop", "holder": "h:1:a", "since": datetime(2030, 1, 1, tzinfo=UTC)}
    with ledger.begin() as connection:
        connection.execute(insert(locks), row)
    assert holder(ledger) is None
    with take():
        pass


def test_who_lost_the_lock_does_not_free_that_of_who_came_after(take, ledger):
    with take() as held:
        with ledger.begin() as connection:
            held.check(connection)
            connection.execute(locks.update().values(holder="h:1:a"))
        with pytest.raises(BusyError, match="h:1:a has gone on"), ledger.read() as read:
            held.check(read)
    assert holders(ledger) == ["h:1:a"]
