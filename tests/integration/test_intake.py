"""A log comes into a real PostgreSQL, by several at once, and by an import that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from postgres import new_database
from sqlalchemy import func, select
from worlds.logs import outcome, prediction, write_lines

from flywheel.blobs import Blobs
from flywheel.intake import Placing, Reading, bring, open_log
from flywheel.ledger import Ledger
from flywheel.ledger.intake import Completed, complete, incomplete_ones
from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.serving_tables import early_feedback, incomplete
from flywheel.ledger.tables import feedback, predictions
from flywheel.project import Project

pytestmark = pytest.mark.integration

ROWS = 6_000
IMPORT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from flywheel.blobs import Blobs
from flywheel.intake import Placing, Reading, bring, open_log
from flywheel.intake import store
from flywheel.ledger import Ledger
from flywheel.project import Project

url, folder = sys.argv[1], Path(sys.argv[2])
store._ROWS = 200
project = Project(directory=folder, project={"name": "mine"})
bring(
    Ledger.open(url), Blobs.open(str(folder / "blobs")), open_log(str(folder / "log.jsonl")),
    "predictions", Reading(now=datetime.now(UTC)), Placing(project=project),
    rejects=folder / "rejects", progress=lambda done: print(done.num_rows, flush=True),
)
"""


@pytest.fixture
def url(postgres_server, request):
    """A new database."""
    return new_database(postgres_server, f"intake{abs(hash(request.node.nodeid))}")


@pytest.fixture
def ledger(url):
    with closing(Ledger.open(url)) as opened:
        yield opened


def bring_in(ledger, path, kind="predictions"):
    placing = Placing(project=Project(directory=path.parent, project={"name": "mine"}))
    blobs, reading = Blobs.open(str(path.parent / "blobs")), Reading(now=datetime.now(UTC))
    rejects = path.with_name("rejects")
    return bring(ledger, blobs, open_log(str(path)), kind, reading, placing, rejects=rejects)


def count(ledger, table):
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_predictions_feedback_before_them_and_what_is_computed_later(ledger, tmp_path):
    said = write_lines(tmp_path / "said.jsonl", [outcome(1), outcome(2), outcome(9)])
    assert bring_in(ledger, said, "feedback").num_early == 3
    rows = [prediction(n, confidence=None, answer={"x": [n]}) for n in range(5)]
    assert bring_in(ledger, write_lines(tmp_path / "log.jsonl", rows)).num_new == 5
    assert (count(ledger, feedback), count(ledger, early_feedback)) == (2, 1)
    with ledger.begin() as connection:
        piece = incomplete_ones(connection, 10, None)
        complete(connection, [(one, Completed(one.id, 0.25, [1.0, 2.0])) for one in piece])
    with ledger.read() as connection:
        found = get_prediction(connection, "r3")
    assert (found.confidence, found.embedding.tolist()) == (0.25, [1.0, 2.0])
    assert count(ledger, incomplete) == 0


def test_two_imports_of_one_log_at_once_store_each_row_once(ledger, url, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [prediction(n) for n in range(500)])
    other = write_lines(tmp_path / "copy.jsonl", [prediction(n) for n in range(500)])
    done = []
    threads = [
        threading.Thread(target=lambda one=one: done.append(bring_in(ledger, one)))
        for one in (path, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.num_new for one in done) == count(ledger, predictions) == 500
    assert sum(one.num_known for one in done) == 500


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_import_that_is_killed_goes_on_and_repeats_nothing(kind, request, tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    if kind == "postgresql":
        url = request.getfixturevalue("url")
    path = write_lines(tmp_path / "log.jsonl", [prediction(n) for n in range(ROWS)])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", IMPORT, url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        for _ in range(3):
            child.stdout.readline()
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    with closing(Ledger.open(url)) as ledger:
        before = count(ledger, predictions)
        done = bring_in(ledger, path)
        assert 600 <= before == done.num_before < ROWS
        assert (done.num_new, done.num_known) == (ROWS - before, 0)
        assert count(ledger, predictions) == ROWS
