import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flywheel.errors import BusyError, UnavailableError
from flywheel.stack import process
from flywheel.stack.process import read_servers, write_servers
from flywheel.stack.supervise import port_of, start_all, stop_all

PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, 'up'); time.sleep(60)"
)
RUNAWAY = PARENT.replace("60)'])", "60)'], start_new_session=True)")
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"


def child_of(server) -> psutil.Process:
    return psutil.Process(int(Path(server.log).read_text().split()[0]))


def wait_for_end(server) -> None:
    while server.process() is not None:
        time.sleep(0.02)


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_started_service_answers_and_is_remembered(web, state):
    (server,) = start_all([web()], state, print)
    assert httpx.get(server.url).status_code == 200
    assert read_servers(state) == {"web": server}


def test_a_second_start_keeps_the_same_processes_and_is_quick(web, state):
    services = [web("one"), web("two")]
    first = start_all(services, state, print)
    began = time.monotonic()
    assert start_all(services, state, print) == first
    assert time.monotonic() - began < 0.5


def test_a_killed_service_is_started_again(web, state):
    service = web()
    (first,) = start_all([service], state, print)
    os.kill(first.pid, signal.SIGKILL)
    wait_for_end(first)
    (second,) = start_all([service], state, print)
    assert second.pid != first.pid
    assert httpx.get(second.url).status_code == 200


def test_a_service_killed_this_instant_is_started_again(web, state):
    service = web()
    (first,) = start_all([service], state, print)
    os.killpg(first.pid, signal.SIGKILL)
    while first.process() is not None:  # nothing waits for the kernel to free the port
        pass
    start_all([service], state, print)
    assert httpx.get(service.url).status_code == 200


def test_a_changed_url_moves_the_server(web, state):
    (before,) = start_all([web()], state, print)
    (after,) = start_all([web()], state, print)
    assert before.process() is None
    assert httpx.get(after.url).status_code == 200


def test_changed_settings_start_a_server_anew_and_equal_ones_do_not(web, state):
    service = web(settings="one")
    (first,) = start_all([service], state, print)
    assert start_all([service], state, print) == [first]
    (second,) = start_all([dataclasses.replace(service, settings="two")], state, print)
    assert second.pid != first.pid
    assert read_servers(state)["web"].settings == "two"


def test_stopping_ends_everything_and_says_what(web, program, state):
    servers = start_all([web(), program("parent", PARENT)], state, print)
    child = child_of(servers[1])
    assert stop_all(state, print) == ["parent", "web"]
    assert [server.process() for server in servers] == [None, None]
    assert ended(child)
    assert read_servers(state) == {}


def test_a_second_stop_finds_nothing(web, state):
    start_all([web()], state, print)
    stop_all(state, print)
    assert stop_all(state, print) == []


def test_stopping_what_was_never_started_makes_no_folder(tmp_path):
    assert stop_all(tmp_path / "nowhere", print) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_descendant_in_a_session_of_its_own_is_ended_too(program, state):
    (server,) = start_all([program("parent", RUNAWAY)], state, print)
    child = child_of(server)
    assert os.getsid(child.pid) == child.pid
    stop_all(state, print)
    assert ended(child)


def test_starting_again_spares_it_and_ends_the_other_orphans(program, state):
    services = [program("parent", PARENT), program("runner", RUNAWAY)]
    parent, runner = start_all(services, state, print)
    orphan, runaway = child_of(parent), child_of(runner)
    for server in (parent, runner):
        os.kill(server.pid, signal.SIGKILL)
        wait_for_end(server)
    start_all(services, state, print)
    assert (ended(orphan), ended(runaway)) == (True, False)
    stop_all(state, print)
    assert ended(runaway)


def test_the_orphans_of_a_killed_service_are_ended(program, state):
    (server,) = start_all([program("parent", PARENT)], state, print)
    child = child_of(server)
    os.kill(server.pid, signal.SIGKILL)
    assert stop_all(state, print) == ["parent"]
    assert ended(child)


def test_a_service_that_ignores_the_polite_signal_is_killed(program, state, monkeypatch):
    monkeypatch.setattr(process, "_POLITE_SECONDS", 0.3)
    (server,) = start_all([program("stubborn", STUBBORN)], state, print)
    assert stop_all(state, print) == ["stubborn"]
    assert server.process() is None


def test_a_stranger_with_a_recycled_number_lives_on(web, state):
    (server,) = start_all([web()], state, print)
    stop_all(state, print)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        record = {field: getattr(server, field) for field in server.__slots__}
        old = type(server)(**{**record, "pid": stranger.pid, "create_time": 1.0})
        write_servers(state, {"web": old})
        assert stop_all(state, print) == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_names_the_holder_and_the_setting_and_starts_nothing(web, program, state):
    (held,) = start_all([web()], state / "other", print)
    with pytest.raises(BusyError, match=rf"held by pid {held.pid}.*\[serve\] port"):
        start_all([program("first", "print('up')"), web(port=port_of(held.url))], state, print)
    assert read_servers(state) == {}
    stop_all(state / "other", print)


def test_all_taken_ports_are_reported_at_once_each_with_its_setting(web, state):
    """Moving one port at a time took three starts."""
    held = start_all([web("one"), web("two")], state / "other", print)
    wanted = [web(f"my-{s.name}", port=port_of(s.url)) for s in held]
    wanted[1] = dataclasses.replace(wanted[1], setting="[prefect] url")
    with pytest.raises(BusyError) as caught:
        start_all(wanted, state, print)
    first, second = str(caught.value).splitlines()
    assert first.startswith("my-one: port")
    assert first.endswith("[serve] port")
    assert second.startswith("my-two: port")
    assert second.endswith("[prefect] url")
    stop_all(state / "other", print)


def test_a_service_that_ends_at_once_shows_its_log(program, web, state):
    good = web()
    with pytest.raises(UnavailableError, match=r"(?s)broken ended.*no such weights"):
        start_all([good, program("broken", "raise SystemExit('no such weights')")], state, print)
    assert "broken" not in read_servers(state)


def test_a_failure_keeps_the_servers_that_answer(web, program, state):
    good = web()
    (kept,) = start_all([good], state, print)
    with pytest.raises(UnavailableError):
        start_all([good, program("broken", "raise SystemExit(3)")], state, print)
    assert read_servers(state) == {"web": kept}
    assert kept.process() is not None


def test_a_service_that_never_answers_is_given_up_and_ended(program, state):
    mute = program("mute", "import time; time.sleep(60)", start_seconds=0.3)
    with pytest.raises(UnavailableError, match="mute did not answer"):
        start_all([mute], state, print)
    assert not [p for p in psutil.Process().children() if "time.sleep" in " ".join(p.cmdline())]


def test_a_program_that_is_missing_says_how_to_install_it(web, state):
    service = web()
    missing = type(service)(name="ghost", argv=("/no/such/program",), env={}, directory=state)
    with pytest.raises(UnavailableError, match=r"/no/such/program.*make setup"):
        start_all([missing], state, print)


def test_two_commands_at_once_are_refused(web, state):
    state.mkdir()
    with (state / "stack.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"stack\.lock is locked"):
            start_all([web()], state, print)


def test_the_last_runs_log_is_kept_beside_the_new_one(program, state):
    for word in ("first", "second"):
        start_all(
            [program("tool", f"print('{word} up'); import time; time.sleep(60)")], state, print
        )
        stop_all(state, print)
    assert (state / "logs/tool.log").read_text() == "second up\n"
    assert (state / "logs/tool.log.1").read_text() == "first up\n"


def test_progress_is_reported_in_order(web, state):
    reported = []
    start_all([web()], state, reported.append)
    stop_all(state, reported.append)
    assert [line.split(" ")[1] for line in reported] == ["starting", "ready", "stopped"]


def test_a_server_outlives_the_command_that_started_it(state, web):
    url = web().url
    code = (
        "import sys; from pathlib import Path; from flywheel.stack.process import Service\n"
        "from flywheel.stack.supervise import start_all\n"
        f"start_all([Service(name='web', argv=(sys.executable, '-m', 'http.server', '{port_of(url)}', "
        f"'--bind', '127.0.0.1'), env={{}}, directory=Path('{state}'), url='{url}')], Path('{state}'), print)"
    )
    # Piped output would never end if the server had inherited it.
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert httpx.get(url).status_code == 200
    assert stop_all(state, print) == ["web"]


@pytest.mark.parametrize(
    ("url", "port"), [("http://a:4280", 4280), ("http://a/x", 80), ("https://a", 443)]
)
def test_a_url_means_one_port(url, port):
    assert port_of(url) == port
