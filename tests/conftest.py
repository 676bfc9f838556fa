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


LONGEST = (
    *("annotate/test_chaos.py", "test_schedule.py", "night/test_kill.py", "ops/test_faults.py"),
    *("test_stack_runs.py", "test_automations.py", "test_namesakes.py", "ops/test_gpu_pool.py"),
    *("ops/test_dashboard.py", "night/test_bad_input.py", "test_stack.py", "ops/test_storage.py"),
    *("ops/test_flows.py", "test_postgres.py", "ops/test_upkeep.py", "night/test_commands.py"),
    *("integration", "nights", "report", "checks", "annotate", "examples", "loop", "evaluate"),
)
"""files and folders that take long, the longest first: several processes end at about the same time,
and what needs the processor fills the waits of what needs servers"""
_WHOLE = ("report", "checks", "annotate")
"""folders of unit tests that share what takes long to make"""


def _scope(nodeid: str) -> str:
    """What one process runs: a file, or a folder of unit tests."""
    path = nodeid.partition("::")[0].partition("tests/")[2] or nodeid.partition("::")[0]
    folder = path.removeprefix("unit/").partition("/")[0]
    return folder if folder in _WHOLE else path.removeprefix("unit/")


def _rank(nodeid: str) -> int:
    scope = _scope(nodeid)
    names = [scope, scope.partition("/")[2], scope.partition("/")[0]]
    return min((LONGEST.index(name) for name in names if name in LONGEST), default=len(LONGEST))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked as long, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.nodeid))
    is_named = any("::" in name for name in config.args)  # who names a test wants it
    if not (is_named or config.getoption("--long")):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - of the process that hands out

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return Scheduling(config, log)


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
