"""Ctrl-C at a command: what is said, when, and with which status the process ends."""

import signal
import subprocess
import sys
import time

import pytest

SAID = "flywheel: stopped. Run the same command again to resume."
PROGRAM = """
import time
from flywheel.cli import app

@app.app.command()
def dawdle():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        time.sleep({tidying})

app.main()
"""


@pytest.fixture
def dawdling():
    """A real process in the middle of a command, which takes its time to end."""
    running = []

    def start(tidying):
        program = PROGRAM.format(tidying=tidying)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", program, "dawdle"], **pipes)
        running.append(process)
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_ctrl_c_is_one_line_and_status_130(dawdling):
    process = dawdling(tidying=0)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, SAID)


def test_it_is_said_before_the_command_has_ended(dawdling):
    process = dawdling(tidying=30)
    begun = time.monotonic()
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == f"{SAID}\n"
    assert (process.poll(), time.monotonic() - begun < 15) == (None, True)
