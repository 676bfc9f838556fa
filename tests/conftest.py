"""What tests of all kinds share: an empty ledger, and a project whose samples wait to be labeled."""

from __future__ import annotations

import gc
import os
import signal
import ssl
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from worlds.letters import Letters

# What the product needs is imported in fixtures: the process that only hands out tests to others
# loads this file too, and they wait for it.

# What is imported and collected lives to the end: the collector would walk over it again and again.
gc.disable()

# Tests run on every core at once; threads that wait for each other's core make them many times
# slower. The variable is for what is imported later, and for child processes.
os.environ["OMP_NUM_THREADS"] = "1"

# Every HTTP client reads all certificate authorities anew, which no server here has need of.
ssl.create_default_context = cache(ssl.create_default_context)


# A shell that runs the tests in its background has them ignore Ctrl-C, and so do the programs they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    threadpool_limits(1)
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def no_waiting() -> Iterator[None]:
    """For tests that pull no plug, for which commits wait for the disk, and retry nothing."""
    from worlds.quick import quick  # noqa: PLC0415 - see above

    with quick():
        yield


@pytest.fixture
def letters(tmp_path) -> Iterator[Letters]:
    """A project about letters; `choose` makes its samples wait for people."""
    from worlds.letters import open_letters  # noqa: PLC0415 - see above

    letters = open_letters(tmp_path)
    yield letters
    letters.ledger.close()
