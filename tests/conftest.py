"""What tests of all kinds share: an empty ledger, and a project whose samples wait to be labeled."""

from __future__ import annotations

import gc
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits
from worlds.letters import Letters, open_letters
from worlds.quick import quick

from flywheel.ledger import Ledger

# What is imported and collected lives to the end: the collector would walk over it again and again.
gc.disable()

# Tests run on every core at once; threads that wait for each other's core make them many times
# slower. The variable is for what is imported later, and for child processes.
os.environ["OMP_NUM_THREADS"] = "1"
threadpool_limits(1)

# Every HTTP client reads all certificate authorities anew, which no server here has need of.
ssl.create_default_context = cache(ssl.create_default_context)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def no_waiting() -> Iterator[None]:
    """For tests that pull no plug, for which commits wait for the disk, and retry nothing."""
    with quick():
        yield


@pytest.fixture(scope="session")
def put_ledger(tmp_path_factory) -> Callable[[Path], None]:
    """(path) -> an empty ledger there, copied: its migrations take longer than most tests."""
    template = tmp_path_factory.mktemp("ledger") / "ledger.db"
    Ledger.open(f"sqlite:///{template}").close()

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, path)

    return put


@pytest.fixture
def letters(tmp_path, put_ledger) -> Iterator[Letters]:
    """A project about letters; `choose` makes its samples wait for people."""
    put_ledger(tmp_path / "ledger.db")
    letters = open_letters(tmp_path)
    yield letters
    letters.ledger.close()
