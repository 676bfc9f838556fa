"""The command line as users meet it: a process, its exit code, and what it prints."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

pytestmark = pytest.mark.integration


def flywheel(*arguments, **environment):
    """Run a command; without the servers of this session."""
    inherited = {k: v for k, v in os.environ.items() if k != "LABEL_STUDIO_API_KEY"}
    return subprocess.run(
        [sys.executable, "-m", "flywheel", *map(str, arguments)],
        env=inherited | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, free_url):
    """A project as `flywheel init` writes it, on ports where no server listens."""
    directory = tmp_path_factory.mktemp("cli") / "fresh"
    assert flywheel("init", directory).returncode == 0
    with (directory / "flywheel.toml").open("a") as settings:
        settings.write(f"[serve]\nport = {free_url().rpartition(':')[2]}\n")
        settings.write(f'[prefect]\nurl = "{free_url()}"\n')
    return directory


def test_help_loads_nothing_that_takes_seconds():
    code = (
        "import sys\nfrom flywheel.cli import main\ntry:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'prefect', 'pandas', 'sklearn', 'scipy.stats'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
    assert "night" in done.stdout


def test_a_fault_of_the_settings_ends_in_one_line_and_status_2(fresh, tmp_path):
    (tmp_path / "flywheel.toml").write_text('[project]\nname = "pq"\ntask = "t:t"\n[trian]\n')
    done = flywheel("night", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "'trian'; did you mean 'train'?" in done.stderr


def test_without_prefect_a_night_ends_in_one_line_and_nothing_is_begun(fresh):
    done = flywheel("night", fresh, PREFECT_API_URL="")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "nothing was started" in done.stderr
    ledger = fresh / ".flywheel/ledger.db"
    assert not ledger.exists() or _nights(ledger) == 0


def _nights(ledger):
    with closing(sqlite3.connect(ledger)) as connection:
        return connection.execute("select count(*) from nights").fetchone()[0]
