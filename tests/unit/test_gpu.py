"""GPUs with invented names, real lock files and real processes that are really killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flywheel.errors import BusyError, SettingsError
from flywheel.gpu import Patience, hold_devices

TWO = ("GPU-aa", "GPU-bb")
AT_ONCE = Patience(seconds=0.0, look_again_seconds=0.01)

# The GPUs have their names here, and torch takes seconds to import.
NO_TORCH = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n"
# Holds a GPU, starts a trainer that inherits the lock, says both, and waits.
PARENT = """
import subprocess, sys, time
from flywheel.gpu import hold_devices
with hold_devices("cuda:0", "toy", gpus=["GPU-aa"]) as held:
    trainer = subprocess.Popen(["sleep", "60"], pass_fds=held.descriptors)
    print(trainer.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_GPU_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def hold(wanted, number=1, gpus=TWO, patience=AT_ONCE, project="toy"):
    return hold_devices(wanted, project, number=number, gpus=gpus, patience=patience)


@pytest.mark.parametrize("wanted", ["cpu", "auto", "mps"])
def test_where_there_is_no_gpu_nothing_is_locked(wanted, locks):
    with hold(wanted, number=3, gpus=()) as held:
        assert held.names == ({"auto": "cpu"}.get(wanted, wanted),) * 3
        assert (held.descriptors, locks.exists()) == ((), False)


def test_each_holder_gets_the_first_gpu_that_is_free():
    with hold("auto") as first, hold("cuda") as second:
        assert (first.names, second.names) == (("cuda:0",), ("cuda:1",))
        with pytest.raises(BusyError, match=r"cuda:0 by toy, process \d+ on .*; cuda:1 by toy"):
            hold("auto").__enter__()


def test_a_gpu_is_told_by_what_it_is_and_not_by_its_place():
    """Whoever has set CUDA_VISIBLE_DEVICES=1 calls the second GPU cuda:0."""
    with hold("auto", gpus=("GPU-bb",)), hold("auto") as other:
        assert other.names == ("cuda:0",)
        with pytest.raises(BusyError, match="cuda:1 by toy"):
            hold("cuda:1").__enter__()


def test_several_gpus_are_had_together_or_not_at_all():
    with hold("cuda:1"), pytest.raises(BusyError, match="no 2 of cuda:0, cuda:1"):
        hold("auto", number=2).__enter__()
    with hold("auto", number=2) as both:
        assert (both.names, len(both.descriptors)) == (("cuda:0", "cuda:1"), 2)


@pytest.mark.parametrize(
    ("wanted", "number", "told"),
    [
        ("cuda:5", 1, "'cuda:5', but 2 GPUs are visible; write auto"),
        ("auto", 3, "processes = 3, but 2 GPUs are visible; lower"),
        ("cuda:1", 2, "'cuda:1' is one GPU for train.processes = 2; write cuda"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_the_next_step(wanted, number, told):
    with pytest.raises(SettingsError, match=told):
        hold(wanted, number).__enter__()


def test_a_folder_that_cannot_be_made_is_told_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLYWHEEL_GPU_LOCKS", str(tmp_path / "file" / "locks"))
    with pytest.raises(SettingsError, match="set FLYWHEEL_GPU_LOCKS to one folder"):
        hold("auto").__enter__()


def test_everybody_on_the_machine_may_use_the_locks(locks):
    before = os.umask(0o077)
    try:
        with hold("auto"):
            pass
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o7777 for path in (locks, locks / "GPU-aa.lock")]
    assert modes == [0o1777, 0o666]


def test_holders_in_processes_of_their_own_never_overlap(tmp_path):
    log = tmp_path / "log"
    code = f"""
import os, time
from flywheel.gpu import Patience, hold_devices
for _ in range(3):
    with hold_devices("auto", "toy", gpus=["GPU-aa"], patience=Patience(look_again_seconds=0.01)):
        log = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, b"+"); time.sleep(0.02); os.write(log, b"-")
"""
    holders = [subprocess.Popen([sys.executable, "-c", NO_TORCH + code]) for _ in range(2)]
    assert [holder.wait(60) for holder in holders] == [0, 0]
    assert log.read_text() == "+-" * 6


def test_a_killed_parent_leaves_the_gpu_to_its_living_trainer():
    with subprocess.Popen(
        [sys.executable, "-c", NO_TORCH + PARENT], stdout=subprocess.PIPE
    ) as parent:
        trainer = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            with pytest.raises(BusyError, match=f"process {parent.pid} on .* or what it started"):
                hold("cuda:0").__enter__()
        finally:
            os.kill(trainer, signal.SIGKILL)
    begun = time.monotonic()
    with hold("cuda:0", patience=Patience(seconds=10, look_again_seconds=0.01)):
        assert time.monotonic() - begun < 10  # nothing to clean up: the death of all frees it
