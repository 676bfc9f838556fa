import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import OperationalError

from flywheel.errors import BusyError, UnavailableError
from flywheel.ledger.holders import this_process
from flywheel.ledger.locks import hold
from flywheel.ledger.tables import locks

HOLDER = """
import sys, time
from datetime import UTC, datetime
from flywheel.ledger import Ledger, locks
host, beat = sys.argv[2:]
if host:
    locks._me = lambda: f"{host}:17:99.00"
locks._BEAT_SECONDS = float(beat)
with locks.hold(Ledger.open(sys.argv[1]), "the loop", lambda: datetime.now(UTC)):
    print("held", flush=True)
    time.sleep(60)
"""
ELSEWHERE = "elsewhere.example.com:17:99.00"


@pytest.fixture
def take(ledger, production):
    return lambda name="the loop", **more: hold(ledger, name, lambda: production.now, **more)


@pytest.fixture
def start(ledger):
    """Starts processes of their own that hold the lock, here or on another host."""
    started = []

    def run(host="", beat=10.0):
        url = ledger.engine.url.render_as_string()
        command = [sys.executable, "-c", HOLDER, url, host, str(beat)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def quick(monkeypatch):
    """A minute takes a fifth of a second, for those who watch."""
    monkeypatch.setattr("flywheel.ledger.locks._DEAD_SECONDS", 0.2)
    monkeypatch.setattr("flywheel.ledger.locks._LOOK_SECONDS", 0.02)


def holders(ledger):
    with ledger.read() as connection:
        return list(connection.execute(select(locks.c.holder)).scalars())


def put(ledger, holder, since):
    with ledger.begin() as connection:
        connection.execute(insert(locks), {"name": "the loop", "holder": holder, "since": since})


def _free(ledger):
    with ledger.begin() as connection:
        connection.execute(locks.delete())


@pytest.mark.usefixtures("quick")
def test_a_living_holder_is_named_and_keeps_its_lock(take, start, ledger):
    holder = start()
    for patience in (0.0, 0.3):
        told = rf"the loop is held by .*:{holder.pid}:.*wait"
        with pytest.raises(BusyError, match=told), take(patience_seconds=patience):
            pass
    assert len(holders(ledger)) == 1


def test_the_lock_of_a_process_that_was_killed_is_taken_over(take, start, ledger):
    holder = start()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with take():
        assert f":{os.getpid()}:" in holders(ledger)[0]
    assert holders(ledger) == []


def test_a_killed_process_whose_parent_has_not_noticed_is_dead_too(take, start):
    holder = start()
    holder.send_signal(signal.SIGKILL)
    while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with take():
        pass


@pytest.mark.parametrize("number", [os.getppid(), "no number"])
def test_a_process_that_got_the_number_of_a_dead_one_does_not_hold_its_lock(
    take, ledger, production, number
):
    host = this_process().rsplit(":", 2)[0]
    put(ledger, f"{host}:{number}:12345.00", production.now)
    with take():
        pass


def test_a_lock_is_free_after_its_block_and_after_an_error_in_it(take, ledger):
    with suppress(ZeroDivisionError), take():
        assert len(holders(ledger)) == 1
        raise ZeroDivisionError
    assert holders(ledger) == []
    assert "beat of the loop" not in [thread.name for thread in threading.enumerate()]


def test_a_ledger_that_fails_at_the_end_of_a_block_hides_nothing_of_it(take, ledger, caplog):
    def fail(_connection):
        raise OperationalError("BEGIN", {}, Exception("disk is full"))

    with suppress(ZeroDivisionError), take():
        event.listen(ledger.engine, "begin", fail)
        raise ZeroDivisionError
    event.remove(ledger.engine, "begin", fail)
    assert "the loop stays held until this process has ended" in caplog.text


def test_a_process_may_enter_its_own_lock_again_and_the_outer_block_keeps_it(take, ledger):
    with take():
        with take():
            pass
        assert len(holders(ledger)) == 1
    assert holders(ledger) == []


def test_two_locks_do_not_know_each_other(take, ledger):
    with take("the loop"), take("the stack"):
        assert len(holders(ledger)) == 2


@pytest.mark.usefixtures("quick")
def test_who_is_patient_has_the_lock_as_soon_as_it_is_free(take, ledger, monkeypatch):
    living = f"{this_process()}1"
    monkeypatch.setattr("flywheel.ledger.locks.is_running", lambda _: holders(ledger) == [living])
    put(ledger, living, datetime(2030, 1, 1, tzinfo=UTC))
    timer = threading.Timer(0.1, _free, [ledger])
    timer.start()
    with take(patience_seconds=60.0):
        assert holders(ledger) == [this_process()]
    timer.join()


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_host_is_seen_to_live_and_keeps_its_lock(take, start, ledger):
    start(host="elsewhere", beat=0.05)
    for patience in (0.0, 0.4):  # longer than it takes to be dead
        with pytest.raises(BusyError, match="elsewhere"), take(patience_seconds=patience):
            pass
    assert holders(ledger) == ["elsewhere:17:99.00"]


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_host_that_gives_no_sign_of_life_is_dead(take, start, ledger):
    start(host="elsewhere", beat=0.05).kill()
    with take():
        assert holders(ledger) == [this_process()]


@pytest.mark.usefixtures("quick")
def test_a_clock_that_jumps_steals_nothing_and_holds_nobody_up(take, start, ledger, production):
    start(host="elsewhere", beat=0.05)
    for days in (400, -400):
        production.now += timedelta(days=days)
        with pytest.raises(BusyError, match="elsewhere"), take(patience_seconds=0.4):
            pass
    _free(ledger)
    put(ledger, ELSEWHERE, production.now + timedelta(days=4000))
    with take():
        pass


def test_who_a_process_is_does_not_move_with_the_clock(monkeypatch):
    before = this_process()
    monkeypatch.setattr("psutil.boot_time", lambda: 1.0)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1.0)
    assert this_process() == before


@pytest.mark.usefixtures("quick")
def test_a_time_in_which_the_ledger_does_not_answer_makes_nobody_dead(take, ledger, production):
    """Who could not be read may have been cut off as well."""
    put(ledger, ELSEWHERE, production.now)
    looks = []

    def fail_at_times(_connection):
        looks.append(1)
        if len(looks) % 4 == 0:  # more often than it takes to be dead
            raise OperationalError("BEGIN", {}, Exception("gone"))

    event.listen(ledger.engine, "begin", fail_at_times)
    with pytest.raises(UnavailableError, match="gone"), take(patience_seconds=0.4):
        pass
    event.remove(ledger.engine, "begin", fail_at_times)
    assert holders(ledger) == [ELSEWHERE]


def test_the_counter_is_raised_while_the_lock_is_held_and_again_after_an_outage(
    take, ledger, monkeypatch
):
    monkeypatch.setattr("flywheel.ledger.locks._BEAT_SECONDS", 0.01)
    raised, looks = threading.Event(), []

    def fail_once(_connection):
        looks.append(1)
        if len(looks) == 2:
            raise OperationalError("BEGIN", {}, Exception("gone"))
        if len(looks) > 4:
            raised.set()

    with take():
        event.listen(ledger.engine, "begin", fail_once)
        assert raised.wait(10)
        event.remove(ledger.engine, "begin", fail_once)
        with ledger.read() as connection:
            assert connection.execute(select(locks.c.counter)).scalar() > 1


def test_who_was_given_up_does_not_free_the_lock_of_who_came_after(take, ledger):
    with take() as held:
        with ledger.begin() as connection:
            held.check(connection)
            connection.execute(locks.update().values(holder=ELSEWHERE))
        with pytest.raises(BusyError, match=f"{ELSEWHERE} has gone on"), ledger.read() as read:
            held.check(read)
    assert holders(ledger) == [ELSEWHERE]
