"""What a night looks like at the terminal."""

import io
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from prefect.states import Completed

from flywheel.cli import running
from flywheel.cli.terminal import Terminal
from flywheel.collect import Collected
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.loop.results import Deployed, Routed
from flywheel.testing import LedgerBuilder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYED = Deployed(released_digest="a" * 64, serving_digest=None, swapped=False, note="no answer")
COLLECTED = Collected(num_predictions=3, num_feedback=2, num_failures=1)
ROUTED = Routed(
    batch_id="b",
    num_probability=1,
    num_targeted=1,
    population=9,
    num_sent=0,
    num_waiting=2,
    project_url=None,
    note="not sent, the batch waits",
)


@pytest.fixture
def shown(letters, monkeypatch):
    """What people see of a night of which one step was done before."""
    said = io.StringIO()
    past = LedgerBuilder(Ledger.open(letters.project.ledger_url))

    def done(name, result):
        past.step(past.night(), name, result)

    def flow(*_):
        done("collect", COLLECTED)
        done("route", ROUTED)
        return Completed(name="Skipped", message="the night of 02:00 [UTC] has been")

    done("deploy", DEPLOYED)
    monkeypatch.setattr(running, "prepare", lambda _: None)
    monkeypatch.setattr(running, "_run", flow)
    running.run_night(letters.project, Terminal(file=said, width=120))
    past.ledger.close()
    return said.getvalue()


def test_a_step_that_was_done_before_is_named_and_its_old_note_is_not_said_again(shown):
    assert "· deploy done earlier\n" in shown
    assert "no answer" not in shown


def test_a_step_that_did_all_has_a_tick(shown):
    assert "✓ collect  1 new suspects in 3 predictions" in shown


def test_a_step_that_could_not_do_all_has_no_tick(shown):
    assert "! route" in shown
    assert "✓ route" not in shown


def test_why_a_run_was_left_out_is_said(shown):
    assert "the night of 02:00 [UTC] has been" in shown


def test_a_server_that_stops_under_a_run_is_said_in_one_line():
    """`flywheel down` in mid-night ended the night in a hundred lines of httpx."""
    flow = Mock(side_effect=httpx.ConnectError("Connection refused"))
    with pytest.raises(
        UnavailableError, match=r"no longer answers \(Connection refused\). Start it"
    ):
        running._run(flow, Path("here"))
