from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from worlds.quick import quick

from flywheel.intake import Placing, Reading, bring, open_log
from flywheel.testing import open_memory, toy_task

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick():
        yield


@pytest.fixture
def memory_of(tmp_path):
    """Opens the project of a task; returns it and what brings a file into it."""
    with ExitStack() as stack:

        def open_one(task, **sections):
            memory = stack.enter_context(open_memory(task, tmp_path / "project", **sections))

            def run(path, kind="predictions", *, again=False, roots=None, reads=None, **reading):
                log, loop = open_log(str(path)), memory.loop
                how = Reading(now=NOW, are_texts=log.are_texts, **reading)
                placing = Placing(project=loop.project, folder=tmp_path, roots=roots, reads=reads)
                rejects = tmp_path / "rejects.jsonl"
                return bring(
                    loop.ledger, loop.blobs, log, kind, how, placing, rejects=rejects, again=again
                )

            return memory, run

        yield open_one


@pytest.fixture
def _opened(memory_of):
    return memory_of(toy_task(), serve={"mode": "external"})


@pytest.fixture
def loop(_opened):
    return _opened[0].loop


@pytest.fixture
def bring_in(_opened):
    """Brings a file in; returns what became of it."""
    return _opened[1]
