"""The flows on a real Prefect server: parts of a night, a person's answer, the way back.

One small project lives through the module, in the order of the tests: its night 1 is begun by
retrain, goes on in evaluate and ends in nightly, which asks a person before it releases.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from asking import post
from prefect.client.orchestration import get_client
from served import serving

import flows.label_hard_cases
import flows.nightly
import flows.release
import flows.rescore
import flows.roll_back
from flows.evaluate import evaluate
from flows.retrain import retrain
from flywheel.ledger.judged import last_approval
from flywheel.ledger.nights import finished_steps
from flywheel.ledger.releases import add_checkpoint, get_checkpoint, release_history
from flywheel.loop import open_loop
from flywheel.loop.release import release_checked
from flywheel.model import load_weights, weights_of
from flywheel.report import status
from flywheel.serve import ModelServer

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
TOY = Path(__file__).parents[2] / "toys" / "corner_task.py"
SETTINGS = """
[project]
name = "operated"
task = "corner_task:task"
[serve]
port = {port}
[labeling]
url = "{nobody}"
[train]
steps = 60
device = "cpu"
cpu_threads = 1
[approval]
wanted = true
hours = 48.0
[prefect]
url = "{prefect}"
"""
HOLDER = """
import sys, time
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.loop.context import LOOP, utc_now
with hold(Ledger.open(sys.argv[1]), LOOP, utc_now):
    print("held", flush=True)
    time.sleep(60)
"""
ANSWER = """
import sys
from flows.release import release
state = release(sys.argv[1], sys.argv[2], name="Ada", reason="looks right", return_state=True)
print("|", state.name, "|", state.message)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory, prefect_server, free_url):
    """The project, with its model server and a deployment that answers at a deadline."""
    folder = tmp_path_factory.mktemp("operated")
    shutil.copy(TOY, folder)
    port = free_url().rpartition(":")[2]
    text = SETTINGS.format(port=port, nobody=free_url(), prefect=prefect_server)
    (folder / "flywheel.toml").write_text(text)
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(flows.release.release)
        parameters = {"directory": str(folder)}
        client.create_deployment(flow_id, name="operated-release", parameters=parameters)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", "nobody asks for it")
        env.setenv("OMP_NUM_THREADS", "1")
        with serving(folder):
            yield folder


@pytest.fixture(scope="module")
def asked(directory):
    """The states of retrain, evaluate and nightly, which bring night 1 to its question."""
    states = [retrain(directory, then_release=False, return_state=True)]
    states.append(evaluate(directory, return_state=True))
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        assert "release" not in finished_steps(connection, 1)
    return [*states, flows.nightly.nightly(directory, return_state=True)]


@pytest.fixture(scope="module")
def approved(directory, asked):
    """What a process of its own says that answers yes."""
    return in_a_new_process(directory, "approve")


@pytest.fixture(scope="module")
def second_release(directory, approved):
    """Another model serves: the same one, a little different."""
    with open_loop(directory) as loop:
        with loop.ledger.read() as connection:
            first = release_history(connection)[-1].checkpoint_digest
            record = get_checkpoint(connection, first)
        module = loop.task.model()
        load_weights(module, loop.blobs.get(first))
        next(module.parameters()).data.mul_(1.001)
        digest = loop.blobs.put(weights_of(module))
        with loop.ledger.begin() as connection:
            add_checkpoint(connection, replace(record, digest=digest))
        return first, release_checked(loop, digest, "by hand", None)


def in_a_new_process(directory, answer):
    command = [sys.executable, "-c", ANSWER, str(directory), answer]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    return done.stdout.strip().rpartition("\n")[2]


def planned(prefect):
    """The runs that are to come of release."""
    chosen = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    chosen["flows"] = {"name": {"any_": ["release"]}}
    return post(f"{prefect}/api/flow_runs/filter", chosen)


def test_a_night_goes_on_from_flow_to_flow(asked):
    assert [state.name for state in asked] == ["Trained", "PROMOTE", "PROMOTE"]
    assert " steps on " in asked[0].message
    assert asked[1].message.endswith("night 1 stays open, the next run ends it")
    assert all(state.is_completed() for state in asked)


def test_a_promotion_that_waits_is_reported_with_its_deadline_and_dossier(directory, asked):
    assert "of night 1 waits for approval until " in asked[2].message
    with open_loop(directory) as loop:
        line = status(loop).approval
        assert status(loop).to_do.startswith("a promoted candidate waits for approval: flywheel")
    page = httpx.get(line.rpartition("dossier: ")[2])
    assert (page.status_code, "PROMOTE" in page.text) == (200, True)


def test_the_question_links_its_dossier_and_the_form_that_answers_it(asked, prefect_server):
    chosen = {"artifacts": {"key": {"any_": ["operated-approval"]}}}
    said = post(f"{prefect_server}/api/artifacts/filter", chosen)[0]["data"]
    links = re.findall(r"\]\((http[^)]+)\)", said)
    [run] = planned(prefect_server)
    assert httpx.get(links[0]).status_code == 200
    assert links[1].endswith(f"/deployments/deployment/{run['deployment_id']}/run")
    assert "then: decline" in said


def test_a_run_is_planned_for_the_deadline(directory, asked, prefect_server):
    [run] = planned(prefect_server)
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        question = last_approval(connection)
    assert datetime.fromisoformat(run["expected_start_time"]) == question.deadline
    assert run["parameters"] == {
        "directory": str(directory),
        "answer": "decline",
        "decision": question.decision_id,
        "name": "deadline",
        "reason": "no answer before the deadline",
    }


def test_a_new_process_approves_and_the_candidate_serves(directory, approved):
    assert "| Approved | decision " in approved
    assert approved.endswith("looks right; release 1 serves")
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        [release] = release_history(connection)
        assert ModelServer(loop.project.server_url).digest() == release.checkpoint_digest


def test_prefect_is_reported_of_the_release(approved, prefect_server):
    chosen = {"event": {"name": ["flywheel.release-changed"]}}
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = post(f"{prefect_server}/api/events/filter", {"filter": chosen})
        mine = [e for e in found["events"] if "operated" in e["resource"]["prefect.resource.id"]]
        if mine:
            assert mine[0]["payload"]["release"] == 1
            return
        time.sleep(0.2)
    pytest.fail("no event")


@pytest.mark.parametrize(
    ("answer", "name", "ended"),
    [("approve", "Bob", "Approved"), ("decline", "Bob", "Refused"), ("approve", "", "Refused")],
)
def test_an_answer_counts_once(directory, approved, answer, name, ended):
    form = {"answer": answer, "name": name, "reason": "late"}
    state = flows.release.release(directory, **form, return_state=True)
    assert (state.name, state.is_completed()) == (ended, ended == "Approved")
    assert "by Ada" in state.message or "the name of an answer is" in state.message


def test_the_run_of_the_deadline_finds_the_answer_and_does_nothing(approved, prefect_server):
    [run] = planned(prefect_server)
    state = flows.release.release(**run["parameters"], return_state=True)
    assert (state.name, state.is_completed()) == ("Skipped", True)
    assert "was approved by Ada" in state.message


def test_a_time_that_was_served_by_hand_is_not_served_again(
    directory, approved, made_by_schedule, take_up
):
    now, night = datetime.now(UTC), flows.nightly.nightly
    [late] = made_by_schedule(night, directory, "operated", "0 2 * * *", now - DAY, now)
    state = take_up(night, late)
    assert (state.name, state.is_completed()) == ("Skipped", True)
    assert (
        f"the slot {late.expected_start_time:%Y-%m-%d %H:%M} UTC has had its night: "
        in state.message
    )


def test_while_another_process_has_the_loop_runs_are_skipped_and_going_back_is_not(
    directory, second_release, monkeypatch
):
    first, other = second_release
    monkeypatch.setattr(
        flows.nightly, "Beginning", lambda **wanted: flows.retrain.Beginning(slot=wanted["slot"])
    )
    with open_loop(directory) as loop:
        command = [sys.executable, "-c", HOLDER, loop.project.ledger_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            for flow in (flows.label_hard_cases.label_hard_cases, flows.nightly.nightly):
                state = flow(directory, return_state=True)
                assert (state.name, state.is_completed()) == ("Skipped", True)
                assert f":{holder.pid}:" in state.message
            back = flows.roll_back.roll_back(directory, "bad", return_state=True)
            holder.kill()
        assert ModelServer(loop.project.server_url).digest() == first
    assert back.message == f"release {other.number + 1} serves {first[:12]} again"


def test_not_enough_labels_begin_no_night(directory, approved):
    state = retrain(directory, only_if_enough=True, return_state=True)
    assert (state.name, state.message) == (
        "Skipped",
        "0 new labels, 100 are enough ([train] enough_labels)",
    )


def test_history_is_measured_anew(directory, approved):
    settings = directory / "flywheel.toml"
    before = settings.read_text()
    settings.write_text(before + '[metric]\noptimize = "correct.median"\n')
    state = flows.rescore.rescore(directory, return_state=True)
    settings.write_text(before)
    assert "nights measured under correct.median; 0 decisions would" in state.message
