"""Schedule and triggers on a real Prefect server: nights and other runs begin by themselves.

One project lives through the module, in the order of the tests: it is scheduled every minute
until its first night is over, then nightly; its model server gets traffic; at last it is
unscheduled beside another project.
"""

import io
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import commands
import httpx
import numpy as np
import pytest
from asking import post, wait_for
from PIL import Image

from flows.registration.registry import remove
from flows.registration.server import planned
from flywheel import stack
from flywheel.cli.scheduling import register, resume, unregister
from flywheel.cli.starter import write_starter
from flywheel.errors import SettingsError
from flywheel.project import load_project

pytestmark = pytest.mark.integration

SETTINGS = """
[project]
name = "{name}"
task = "my_task:task"
[serve]
port = {port}
[collect]
hard_samples = 20
[labeling]
url = "{label_studio}"
samples_per_night = 30
[train]
steps = 20
device = "cpu"
[schedule]
cron = "{cron}"
timezone = "Europe/Berlin"
[prefect]
url = "{prefect}"
"""


@pytest.fixture(scope="module")
def make(tmp_path_factory, prefect_server, label_studio, free_url):
    """Makes a project that uses the session's servers, or writes its settings anew."""

    def make(name, cron="0 2 * * *", port=None):
        directory = tmp_path_factory.getbasetemp() / "scheduled" / name
        if not directory.exists():
            write_starter(directory)
        places = {"label_studio": label_studio.url, "prefect": prefect_server}
        port = port or free_url().rpartition(":")[2]
        text = SETTINGS.format(name=name, cron=cron, port=port, **places)
        (directory / "flywheel.toml").write_text(text)
        return load_project(directory)

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
        environment.setenv("FLYWHEEL_WEBHOOK_SECRET", "only the two of us know")
        environment.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")  # else it looks every ten
        yield make


@pytest.fixture(scope="module")
def every_minute(make):
    """The project while its cron says every minute, with its model server."""
    project = make("nightjar", cron="* * * * *")
    stack.up(project, ["model-server"])
    flywheel("schedule", project, run=commands.as_process)
    yield project
    unregister(project, progress=print)
    stack.down(project)


@pytest.fixture(scope="module")
def first_night(every_minute):
    """The first run of the schedule, when it is over."""
    return wait_for(lambda: ended(every_minute, "nightly", auto_scheduled=True))


@pytest.fixture(scope="module")
def project(every_minute, first_night, make):
    """The project from then on: nightly, with a model that serves, and no run under way."""
    project = make("nightjar", port=every_minute.serve.port)
    flywheel("schedule", project)
    wait_for(lambda: not runs(project, "nightly", "RUNNING", "PENDING"))
    return project


@pytest.fixture(scope="module")
def label_run(project):
    """The run that a burst of hard samples has started, when it is over."""
    assert send_noise(project, 120) >= 60
    return wait_for(lambda: ended(project, "label-hard-cases"))


@pytest.fixture(scope="module")
def take_in_run(project, label_run, label_studio):
    """The run that an annotation in Label Studio has started, when it is over."""
    annotate(project, label_studio)
    return wait_for(lambda: ended(project, "ingest-labels"))


def flywheel(command, project, code=0, run=commands.here):
    """What a command says, its complaints last."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PREFECT_API_URL")
        done = run(command, project.directory)
    assert done.code == code, done.out + done.err
    return done.out + done.err


def api(project, path, **body):
    return post(f"{project.prefect.url}/api{path}", body)


def runs(project, flow, *states):
    chosen = {"tags": {"all_": [project.name]}}
    if states:
        chosen["state"] = {"type": {"any_": list(states)}}
    return api(project, "/flow_runs/filter", flow_runs=chosen, flows={"name": {"any_": [flow]}})


def ended(project, flow, **fields):
    """A run that has ended as it should; one that has not fails the test at once."""
    done = runs(project, flow, "COMPLETED", "FAILED", "CRASHED")
    assert all(run["state_type"] == "COMPLETED" for run in done), done
    return next((r for r in done if all(r[name] == fields[name] for name in fields)), None)


def deployments(project):
    return api(project, "/deployments/filter", deployments={"tags": {"all_": [project.name]}})


def inventory(project):
    """All that is registered for a project; automations are made anew, so without their ids."""
    automations = api(project, "/automations/filter")
    return {
        "deployments": {(found["id"], found["entrypoint"]) for found in deployments(project)},
        "schedules": [s["schedule"]["cron"] for d in deployments(project) for s in d["schedules"]],
        "triggers": [a["name"] for a in automations if a["name"].startswith(project.name)],
        "pools": [
            p["name"] for p in api(project, "/work_pools/filter") if project.name in p["name"]
        ],
        "workers": [server.pid for server in stack.running(project) if server.name == "worker"],
    }


def send_noise(project, count):
    """Send pictures of nothing; how many the model was not sure about."""
    pictures = np.random.default_rng(5).integers(0, 255, (count, 8, 8), dtype=np.uint8)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda picture: predict(project, picture), pictures))
    return sum(answer["confidence"] < project.collect.low_confidence for answer in answers)


def predict(project, picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    headers = {"Content-Type": "image/png"}
    url = f"{project.server_url}/predict"
    response = httpx.post(url, content=buffer.getvalue(), headers=headers, timeout=60)
    response.raise_for_status()
    return response.json()


def annotate(project, label_studio):
    """Answer a labeling task of the project over Label Studio's API, as its model did."""
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=f"{label_studio.url}/api", headers=headers, timeout=30) as client:
        [found] = [
            one["id"]
            for one in client.get("/projects").json()["results"]
            if project.name in one["title"]
        ]
        wanted = {"project": found, "fields": "all"}
        tasks = client.get("/tasks", params=wanted).json()["tasks"]
        task = next(task for task in tasks if task["predictions"])
        answer = {"result": task["predictions"][0]["result"]}
        client.post(f"/tasks/{task['id']}/annotations/", json=answer).raise_for_status()


def test_a_night_begins_by_itself_when_its_cron_says_so(every_minute, first_night):
    assert first_night["state_name"] == "PROMOTE"
    assert re.fullmatch(r"nightjar nightly \d{4}-\d\d-\d\d \d\d:\d\d", first_night["name"])
    assert httpx.get(f"{every_minute.server_url}/model").json()["release"] == 1


def test_another_cron_takes_the_place_of_the_first(project):
    found = inventory(project)
    assert found["schedules"] == ["0 2 * * *"]
    assert [len(of_a_kind) for of_a_kind in found.values()] == [8, 1, 4, 1, 1]
    planned = runs(project, "nightly", "SCHEDULED")
    assert not [run for run in planned if ":00:00" not in run["expected_start_time"]]


def events(project, name):
    resource = {"id": [f"flywheel.project.{project.name}"]}
    chosen = {"event": {"name": [name]}, "resource": resource}
    return api(project, "/events/filter", filter=chosen)["events"]


def test_hard_samples_reach_annotators_before_the_night_does(project, label_run, label_studio):
    sent = int(re.match(r"(\d+) labeling tasks sent", label_run["state"]["message"])[1])
    headers = {"Authorization": f"Token {label_studio.token}"}
    asked = {"headers": headers, "params": {"page_size": 500}}
    found = httpx.get(f"{label_studio.url}/api/projects", **asked).json()["results"]
    assert [p["task_number"] for p in found if project.name in p["title"]] == [sent]
    assert 0 < sent <= project.labeling.samples_per_night


def test_a_burst_of_events_makes_one_run(project, label_run):
    assert wait_for(lambda: len(events(project, "flywheel.hard-samples-waiting")) >= 2)
    assert len(runs(project, "label-hard-cases")) == 1


def test_an_annotation_is_taken_in_without_waiting_for_the_night(take_in_run):
    assert take_in_run["state"]["message"].startswith("1 annotations, 1 labels")


def test_one_event_of_label_studio_made_the_run(project, take_in_run):
    [event] = events(project, "flywheel.annotations-waiting")
    assert event["payload"] == {"num_events": 1}
    assert len(runs(project, "ingest-labels")) == 1


def test_a_run_shows_a_form_that_says_what_it_wants(project):
    for found in deployments(project):
        field = found["parameter_openapi_schema"]["properties"]["directory"]
        assert (field["type"], field["format"]) == ("string", "path")
        assert "flywheel.toml" in field["description"]


def test_a_worker_that_was_stopped_takes_up_what_became_late(project, label_run):
    assert stack.down(project, only="worker") == ["worker"]
    [label] = [d["id"] for d in deployments(project) if "label_hard" in d["entrypoint"]]
    late = api(project, f"/deployments/{label}/create_flow_run")["id"]
    assert resume(project, progress=print)
    wait_for(lambda: late in [r["id"] for r in runs(project, "label-hard-cases", "COMPLETED")], 60)


def test_predictions_go_on_when_prefect_is_gone(project, make, free_url, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"{free_url()}/api")
    lonely = make("lonely")
    shutil.copytree(project.state, lonely.state, ignore=shutil.ignore_patterns("stack.*", "logs"))
    stack.up(lonely, ["model-server"])
    began = time.monotonic()
    assert send_noise(lonely, 120) >= 60
    assert time.monotonic() - began < 60  # a second for each, and they would take two minutes
    stack.down(lonely)


def test_status_says_when_the_next_night_is_and_what_went_wrong(project):
    said = flywheel("status", project)
    assert re.search(r"schedule +next night 20..-..-.. 0[01]:00 UTC", said)  # 02:00 in Berlin
    assert "failed" not in said.partition("serves")[0]
    [night] = [one for one in deployments(project) if one["entrypoint"].endswith(".nightly")]
    run = api(project, f"/deployments/{night['id']}/create_flow_run", state={"type": "PENDING"})
    state = {"type": "CRASHED", "message": "the machine lost its power"}
    api(project, f"/flow_runs/{run['id']}/set_state", state=state, force=True)
    [line] = planned(project).failed
    assert line.endswith(
        f"the machine lost its power; {project.prefect.url}/runs/flow-run/{run['id']}"
    )


def test_a_cron_line_that_means_no_time_registers_nothing(make):
    never = make("never")
    settings = never.directory / "flywheel.toml"
    settings.write_text(settings.read_text().replace("0 2 * * *", "0 99 * * *"))
    assert flywheel("schedule", never, code=2).count("\n") == 1
    assert not any(inventory(never).values())


def test_a_name_that_another_folder_has_is_refused(project, tmp_path):
    other = project.model_copy(update={"directory": tmp_path})
    before = inventory(project)
    reported = f"'nightjar' is scheduled on this Prefect server for {project.directory}"
    with pytest.raises(SettingsError, match=re.escape(reported)):
        register(other, progress=print)
    assert inventory(project) == before


def test_a_folder_of_the_same_name_on_another_machine_is_another_project(project, monkeypatch):
    """Both were one to a Prefect server that they share: the second replaced the first's nights."""
    before = inventory(project)
    with monkeypatch.context() as there:
        there.setattr(stack, "own_id", lambda _: "0f" * 16)
        with pytest.raises(SettingsError, match="by a project in a folder of the same name"):
            register(project, progress=print)
        assert remove(project) == []
    assert inventory(project) == before


def test_unscheduling_takes_all_of_one_project_and_nothing_of_another(project, make):
    other = make("owl")
    flywheel("schedule", other)
    before = inventory(other)
    assert "nightly/nightjar-nightly: removed" in flywheel("unschedule", project)
    assert not any(inventory(project).values())
    assert inventory(other) == before


@pytest.fixture(scope="module")
def moved(make):
    """A scheduled project that is in another folder now."""
    directory = make("owl").directory
    return load_project(directory.rename(directory.with_name("barn")))


def test_a_project_that_moved_takes_its_runs_along(moved):
    old = moved.directory.with_name("owl")
    [line] = planned(moved).lines(moved)
    assert f"its runs look for it in {old}, where no project is on this machine" in line
    with pytest.raises(SettingsError, match=f"flywheel schedule {moved.directory} --moved"):
        register(moved, progress=print)
    register(moved, progress=print, has_moved=True)
    assert {one["parameters"]["directory"] for one in deployments(moved)} == {str(moved.directory)}
    assert planned(moved).directory == moved.directory


def test_unscheduling_again_finds_nothing_to_do(moved):
    reported = []
    for _ in range(2):
        unregister(moved, progress=reported.append)
    assert reported[-1] == f"nothing was scheduled for {moved.directory}"
