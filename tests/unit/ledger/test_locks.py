import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import psutil
import pytest
from sqlalchemy import insert, select

from flywheel.errors import BusyError
from flywheel.ledger.locks import hold
from flywheel.ledger.tables import locks

HOLDER = """
import sys, time
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from datetime import UTC, datetime
with hold(Ledger.open(sys.argv[1]), "the loop", lambda: datetime.now(UTC)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def take(ledger, production):
    return lambda name="the loop": hold(ledger, name, lambda: production.now)


@pytest.fixture
def holder(ledger):
    """A process of its own that holds the lock."""
    command = [sys.executable, "-c", HOLDER, ledger.engine.url.render_as_string()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def holders(ledger):
    with ledger.read() as connection:
        return list(connection.execute(select(locks.c.holder)).scalars())


def put(ledger, holder, since):
    with ledger.begin() as connection:
        connection.execute(insert(locks), {"name": "the loop", "holder": holder, "since": since})


def test_a_living_holder_is_named_and_keeps_its_lock(take, holder, ledger):
    with pytest.raises(BusyError, match=rf"the loop is held by .*:{holder.pid}:.*wait"), take():
        pass
    assert len(holders(ledger)) == 1


def test_the_lock_of_a_process_that_was_killed_is_taken_over(take, holder, ledger):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with take():
        assert f":{os.getpid()}:" in holders(ledger)[0]
    assert holders(ledger) == []


def test_a_killed_process_whose_parent_has_not_noticed_is_dead_too(take, holder):
    holder.send_signal(signal.SIGKILL)
    while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with take():
        pass


def test_a_process_that_got_the_number_of_a_dead_one_does_not_hold_its_lock(
    take, ledger, production
):
    put(ledger, f"{socket.gethostname()}:{os.getppid()}:12345.00", production.now)
    with take():
        pass


def test_a_lock_is_free_after_its_block_and_after_an_error_in_it(take, ledger):
    with suppress(ZeroDivisionError), take():
        assert len(holders(ledger)) == 1
        raise ZeroDivisionError
    assert holders(ledger) == []


def test_a_process_may_enter_its_own_lock_again_and_the_outer_block_keeps_it(take, ledger):
    with take():
        with take():
            pass
        assert len(holders(ledger)) == 1
    assert holders(ledger) == []


def test_two_locks_do_not_know_each_other(take, ledger):
    with take("the loop"), take("the stack"):
        assert len(holders(ledger)) == 2


@pytest.mark.parametrize(("hours", "is_free"), [(23, False), (25, True)])
def test_a_holder_on_another_host_is_given_up_after_a_day(take, ledger, production, hours, is_free):
    put(ledger, "elsewhere.example.com:17:99.00", production.now - timedelta(hours=hours))
    if is_free:
        with take():
            pass
    else:
        with pytest.raises(BusyError, match="elsewhere"), take():
            pass


def test_who_was_given_up_does_not_free_the_lock_of_who_came_after(take, ledger, production):
    with take():
        with ledger.begin() as connection:
            connection.execute(locks.update().values(holder="elsewhere.example.com:17:99.00"))
        before = holders(ledger)
    assert holders(ledger) == before
