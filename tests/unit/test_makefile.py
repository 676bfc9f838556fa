import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "help",
    "setup",
    "demo",
    "demo-pose",
    "down",
    "test",
    "check",
    "bench",
    "prove",
    "clean",
)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments, cwd=ROOT):
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_make_alone_says_what_there_is():
    told = re.findall(r"^make ([\w-]+) +\S", make().stdout, re.MULTILINE)
    assert tuple(told) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_planned(target):
    done = make("-n", target)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_installation_is_not_taken_for_done(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text("#!/bin/sh\necho no network >&2\nexit 3\n")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    done = make(".venv/.stamp", cwd=tmp_path)
    assert "no network" in done.stdout + done.stderr
    assert (done.returncode, (tmp_path / ".venv/.stamp").exists()) == (2, False)


def test_the_ci_script_is_sound_bash():
    done = subprocess.run(["bash", "-n", ROOT / ".ci/run"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
