"""Each automation fires on a real Prefect server, and notifies a real address.

One project lives through the module, in the order of the tests: it is scheduled with an address for
notifications; its task cannot be loaded, so each of its runs fails at once; then its workers go; at last it
moves to a work pool of the team.
"""

import contextlib
import json
import threading
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from asking import get, post, wait_for

from flywheel import stack
from flywheel.cli.scheduling import register, unregister
from flywheel.cli.starter import write_starter
from flywheel.errors import SettingsError
from flywheel.project import load_project
from flywheel.settings.operations import Notify, Workers

pytestmark = pytest.mark.integration

SETTINGS = """
[project]
name = "watchdog"
task = "nowhere:task"
[prefect]
url = "{prefect}"
[schedule]
cron = "0 2 * * *"
"""
SOON = Notify.model_construct(late_minutes=10 / 60, stuck_seconds=15)


@pytest.fixture(scope="module")
def sink():
    """(address, what was posted there)."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", posted
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def project(tmp_path_factory, prefect_server, sink):
    """Scheduled, with workers for both of its pools."""
    directory = tmp_path_factory.mktemp("watchdog") / "project"
    write_starter(directory)
    (directory / "flywheel.toml").write_text(SETTINGS.format(prefect=prefect_server))
    pools = Workers(gpu_pool="flywheel-watchdog-gpu")
    project = load_project(directory).model_copy(update={"notify": SOON, "workers": pools})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FLYWHEEL_NOTIFY_URL", sink[0])
        environment.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")  # else it looks every ten
        environment.setenv("PREFECT_WORKER_HEARTBEAT_SECONDS", "4")  # else it is gone after 90
        environment.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        said = []
        register(project, progress=said.append)
        (directory / "said").write_text("\n".join(said))
        yield project
        unregister(project, progress=print)
        stack.down(project)


@pytest.fixture(scope="module")
def ids(project):
    """Flow -> id of its deployment."""
    return {d["entrypoint"].split(".")[1]: d["id"] for d in deployments(project)}


def api(project, path, **body):
    return post(f"{project.prefect.url}/api{path}", body)


def deployments(project):
    return api(project, "/deployments/filter", deployments={"tags": {"all_": [project.name]}})


def automations(project):
    found = api(project, "/automations/filter", limit=200)
    return {a["name"]: a["id"] for a in found if a["name"].startswith(f"{project.name}: ")}


def runs(project, deployment):
    return api(project, "/flow_runs/filter", deployments={"id": {"any_": [deployment]}})


def send(project, event, count=1, labels=None, **payload):
    """What a model server or a step would send."""
    resource = {"prefect.resource.id": f"flywheel.project.{project.name}", **(labels or {})}
    sent = [
        {
            "id": str(uuid.uuid4()),
            "event": f"flywheel.{event}",
            "resource": resource,
            "payload": payload,
            "occurred": datetime.now(UTC).isoformat(),
        }
        for _ in range(count)
    ]
    post(f"{project.prefect.url}/api/events", sent)


def reported(sink, event):
    return wait_for(lambda: next((n for n in sink[1] if n["event"] == event), None))


def _about(sink, event, link):
    """Other runs may be reported before: the one of an event about a page."""
    return next((n for n in sink[1] if (n["event"], n["link"]) == (event, link)), None)


@pytest.fixture(scope="module")
def burst(project):
    """Fifty events within a moment, and some of each other kind that starts runs."""
    send(project, "hard-samples-waiting", count=50, num_samples=50)
    send(project, "annotations-waiting", count=10, num_events=1)
    send(project, "enough-labels", count=5, enough=100)


def test_all_is_registered_and_said(project):
    said = (project.directory / "said").read_text()
    assert len(deployments(project)) == 9
    assert len(automations(project)) == 12
    assert "automations      12 created" in said
    assert "gpu-step/watchdog-gpu-step" in said
    assert "notifications    off" not in said


def test_the_gpu_pool_of_a_project_has_one_place_and_a_worker(project):
    pool = get(f"{project.prefect.url}/api/work_pools/flywheel-watchdog-gpu")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)
    assert [server.name for server in stack.running(project)] == ["gpu-worker", "worker"]


def test_doing_it_again_changes_nothing(project):
    before = automations(project), stack.running(project)
    said = []
    register(project, progress=said.append)
    assert "automations      12 unchanged" in said
    assert sum("unchanged" in line for line in said) == 1 + 9
    assert (automations(project), stack.running(project)) == before


@pytest.mark.parametrize("flow", ["label_hard_cases", "ingest_labels", "retrain"])
def test_a_burst_of_events_makes_one_run(project, ids, burst, flow):
    wait_for(lambda: runs(project, ids[flow]))
    assert len(runs(project, ids[flow])) == 1


def test_enough_labels_begin_a_training_that_asks_the_ledger_first(project, ids):
    [run] = runs(project, ids["retrain"])
    assert run["parameters"] == {"directory": str(project.directory), "only_if_enough": True}


def test_a_night_that_failed_is_reported_with_a_link(project, ids, sink):
    tries = (_failed_night(project, ids, sink) for _ in range(3))
    found = next(filter(None, tries), None)
    assert found, "three nights failed, and none was reported"
    assert found["project"] == "watchdog"
    assert "ended Failed" in found["what"]
    assert "nowhere" in found["what"]


def _failed_night(project, ids, sink):
    """What is reported of a night that fails, or None: a server on SQLite drops an event now and then."""
    made = api(project, f"/deployments/{ids['nightly']}/create_flow_run")
    page = f"{project.prefect.url}/api/flow_runs/{made['id']}"
    wait_for(lambda: get(page)["state_type"] == "FAILED")
    failed = f"{project.prefect.url}/runs/flow-run/{made['id']}"
    with contextlib.suppress(AssertionError):
        return wait_for(lambda: _about(sink, "run-failed", failed), seconds=45)
    return None


@pytest.fixture(scope="module")
def stuck_run(project, ids, burst):
    """A run that said once that it lives, and is gone with its machine.

    After all others have ended: a server on SQLite drops an event now and then when many write.
    """
    wait_for(lambda: not unfinished(project))
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}
    made = api(project, f"/deployments/{ids['rescore']}/create_flow_run", state=state)["id"]
    api(project, f"/flow_runs/{made}/set_state", state={"type": "RUNNING"}, force=True)
    beat = {
        "id": str(uuid.uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{made}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.deployment.{ids['rescore']}",
                "prefect.resource.role": "deployment",
            }
        ],
    }
    post(f"{project.prefect.url}/api/events", [beat])
    return made


@pytest.mark.parametrize(
    ("event", "payload", "word"),
    [
        ("approval-wanted", {"night": 7, "deadline": "2026-03-01 02:00 UTC"}, "until 2026-03-01"),
        ("release-changed", {"release": 3, "why": "roll-back: ann"}, "release 3 serves: roll-back"),
        ("release-overdue", {"release": 3, "why": "release 3 is overdue"}, "release 3 is overdue"),
        ("drift", {"feature": "confidence", "distance": 0.3123}, "confidence moved by 0.31"),
    ],
)
def test_what_a_step_emits_reaches_the_address(project, sink, stuck_run, event, payload, word):
    send(project, event, **payload)
    assert word in reported(sink, event)["what"]


def test_the_form_of_an_approval_is_one_click_away(project, ids, sink):
    form = f"{project.prefect.url}/deployments/deployment/{ids['release']}/run"
    assert reported(sink, "approval-wanted")["link"] == form


def test_a_night_that_used_its_budget_is_no_news_and_a_month_is(project, sink):
    send(project, "budget-spent", labels={"flywheel.budget": "night"}, budget="night")
    send(project, "budget-spent", labels={"flywheel.budget": "month"}, budget="month")
    assert "until the month is over" in reported(sink, "budget-spent")["what"]
    assert sum(notice["event"] == "budget-spent" for notice in sink[1]) == 1


def test_a_run_without_a_sign_of_life_is_marked_as_crashed_and_reported(project, sink, stuck_run):
    url = f"{project.prefect.url}/api/flow_runs/{stuck_run}"
    wait_for(lambda: get(url)["state_type"] == "CRASHED")
    link = f"{project.prefect.url}/runs/flow-run/{stuck_run}"
    found = wait_for(lambda: next((n for n in sink[1] if n["link"] == link), None))
    assert "No sign of life for 15 s" in found["what"]


@pytest.fixture(scope="module")
def alone(project, ids):
    """The server without a worker, and a night that is due."""
    wait_for(lambda: not unfinished(project))
    stack.down(project, only="worker", progress=print)
    stack.down(project, only="gpu-worker", progress=print)
    state = {
        "type": "SCHEDULED",
        "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
    }
    return api(project, f"/deployments/{ids['nightly']}/create_flow_run", state=state)["id"]


def unfinished(project):
    states = {"type": {"any_": ["RUNNING", "PENDING"]}}
    chosen = {"tags": {"all_": [project.name]}, "state": states}
    return api(project, "/flow_runs/filter", flow_runs=chosen)


def test_a_worker_that_is_gone_is_reported_of_each_pool(project, sink, alone):
    wait_for(lambda: sum(n["event"] == "worker-gone" for n in sink[1]) == 2)
    names = {n["link"].rpartition("/")[2] for n in sink[1] if n["event"] == "worker-gone"}
    assert names == {"flywheel-watchdog", "flywheel-watchdog-gpu"}


def test_a_night_that_does_not_begin_is_reported(project, sink, alone):
    late = f"{project.prefect.url}/runs/flow-run/{alone}"
    assert wait_for(lambda: _about(sink, "night-late", late))["project"] == "watchdog"


def test_a_pool_of_the_team_that_is_missing_is_refused_before_anything_changes(project):
    before = automations(project), len(deployments(project))
    moved = project.model_copy(update={"workers": Workers(pool="team")})
    with pytest.raises(SettingsError, match=r"pool = 'team' .* prefect work-pool create team"):
        register(moved, progress=print)
    assert (automations(project), len(deployments(project))) == before


def test_a_project_moves_to_a_pool_of_the_team_and_leaves_it_as_it_was(project, monkeypatch):
    monkeypatch.delenv("FLYWHEEL_NOTIFY_URL")
    made = api(project, "/work_pools/", name="team", type="docker")
    moved = project.model_copy(update={"workers": Workers(pool="team")})
    said = []
    register(moved, progress=said.append)
    assert {d["work_pool_name"] for d in deployments(project)} == {"team"}
    assert any("gpu-step/watchdog-gpu-step" in line and "removed" in line for line in said)
    assert any("set FLYWHEEL_NOTIFY_URL" in line for line in said)
    assert len(automations(project)) == 4
    assert [p["name"] for p in api(project, "/work_pools/filter") if "watchdog" in p["name"]] == []
    unregister(moved, progress=said.append)
    pool = get(f"{project.prefect.url}/api/work_pools/team")
    assert (pool["id"], pool["base_job_template"]) == (made["id"], {})
    assert not automations(project)
    assert not blocks(project)


def blocks(project):
    found = api(project, "/block_documents/filter")
    return [b["name"] for b in found if project.name in (b["name"] or "")]
