import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TARGETS = (
    "help",
    "setup",
    "demo",
    "demo-details",
    "demo-messages",
    "demo-pose",
    "demo-shapes",
    "demo-tumours",
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


def test_every_target_can_be_planned():
    done = make("-n", *TARGETS)
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


def needed(*requirements):
    """The names of all that these requirements pull in here, themselves among them."""
    names, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), *sorted(wanted.extras))
        if key in names:
            continue
        names.add(key)
        for text in metadata.requires(wanted.name) or ():
            more, extras = Requirement(text), {*wanted.extras, ""}
            if more.marker is None or any(more.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(more)
    return {name for name, *_ in names}


def test_the_lock_names_all_that_each_target_installs_and_no_more():
    """Pip is called with --no-deps, so what is missing here would be missing there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    demo, pose, rest = (
        {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", part, re.MULTILINE)}
        for part in re.split(
            r"^# (?:pose|the other extras.*)$",
            (ROOT / "constraints.txt").read_text(),
            flags=re.MULTILINE,
        )
    )
    base = needed(*project["project"]["dependencies"])
    everything = needed(*sum(extras.values(), project["dependency-groups"]["dev"]))
    assert demo == base
    assert pose == needed(*extras["pose"]) - base
    assert rest == everything - demo - pose
