"""The real Prefect and Label Studio, from their very first start, as `flywheel up` starts them."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import get_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flywheel import stack
from flywheel.annotate.label_studio.backend import LabelStudioBackend
from flywheel.errors import BusyError
from flywheel.private import open_to_others
from flywheel.project import Project, load_project
from flywheel.settings.labeling import LabelingSettings
from flywheel.settings.operations import Identity, Serve
from flywheel.settings.operations import Prefect as PrefectSettings
from flywheel.stack.local import SERVICES

pytestmark = pytest.mark.integration

NAMES = ("prefect", "label-studio")
TASK = Path(__file__).parents[1] / "toys/pair_task.py"


OTHER_USER = """
import json, os, sys, urllib.error, urllib.request
def tried(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
    except OSError:
        return None
def asked(method, url, headers, body):
    wanted = urllib.request.Request(url, body and body.encode(), headers, method=method)
    try:
        return urllib.request.urlopen(wanted, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code
given = json.load(sys.stdin)
print(json.dumps({
    "read": [path for path in given["paths"] if tried(path) is not None],
    "said": [asked(*wanted) for wanted in given["asked"]],
}))
"""
JSON = {"Content-Type": "application/json"}
EVIL = {"Origin": "http://evil.example"}


@pytest.fixture(scope="module")
def project(label_studio_program, free_url):
    """In a folder that every user of the machine may enter, as those of most homes and servers."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copy(TASK, folder)
        made = Project(
            directory=Path(folder),
            project=Identity(name="toy", task="pair_task:task"),
            prefect=PrefectSettings(url=free_url()),
            labeling=LabelingSettings(url=free_url()),
            serve=Serve(port=port(free_url())),
        )
        settings = {"prefect": {"url": made.prefect.url}, "labeling": {"url": made.labeling.url}}
        settings["serve"] = {"port": made.serve.port}
        text = '[project]\nname = "toy"\ntask = "pair_task:task"\n' + "".join(
            f"[{section}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())
            for section, keys in settings.items()
        )
        (made.directory / "flywheel.toml").write_text(text)
        yield made
        stack.down(made)


def as_another_user(paths, asked):
    """What a user of this machine who is not the project's owner reads, and is answered."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    done = subprocess.run(
        [shutil.which("python3", path="/usr/bin:/usr/local/bin"), "-I", "-c", OTHER_USER],
        input=json.dumps({"paths": [str(path) for path in paths], "asked": asked}),
        capture_output=True,
        text=True,
        check=True,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def no_other_servers(request, monkeypatch):
    """What the environment names wins, and other tests of this session name their own servers."""
    if "prefect_server" not in request.fixturenames:
        for name in ("LABEL_STUDIO_API_KEY", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def servers(project):
    return {server.name: server for server in stack.up(project, NAMES)}


@pytest.fixture
def only_prefect(tmp_path, free_url):
    made = Project(
        directory=tmp_path,
        project=Identity(name="toy", task="toy:task"),
        prefect=PrefectSettings(url=free_url()),
    )
    yield made
    stack.down(made)


def wait_for_end(server):
    while server.process() is not None:
        time.sleep(0.02)


def port(url):
    return int(url.rsplit(":", 1)[1])


def test_both_servers_answer_on_the_urls_of_the_project(project, servers):
    assert httpx.get(f"{project.prefect.url}/api/health").json() is True
    assert httpx.get(f"{project.labeling.url}/health/").json() == {"status": "UP"}


def test_the_token_of_the_environment_opens_label_studio(project, servers, monkeypatch):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    headers = {"Authorization": f"Token {stack.environment(project)['LABEL_STUDIO_API_KEY']}"}
    answer = httpx.get(f"{project.labeling.url}/api/current-user/whoami", headers=headers)
    assert answer.json()["email"] == stack.login(project).email


def test_a_person_enters_label_studio_with_the_stored_password(project, servers):
    door = stack.login(project)
    password = json.loads(door.password_file.read_text())["password"]
    with httpx.Client(base_url=door.url) as browser:
        browser.get("/user/login/")
        form = {"email": door.email, "password": password}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        browser.post("/user/login/", data=form, headers={"Referer": door.url})
        assert browser.get("/api/current-user/whoami").status_code == 200


def test_nobody_signs_up_without_an_invitation(project, servers):
    with httpx.Client(base_url=project.labeling.url) as browser:
        browser.get("/user/signup/")
        form = {"email": "x@example.com", "password": "long-enough-1"}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        headers = {"Referer": project.labeling.url}
        assert browser.post("/user/signup/", data=form, headers=headers).status_code == 403


@pytest.fixture
def everything(project, servers):
    """The three servers of the project, which no one has a right on but its owner."""
    return {server.name: server for server in stack.up(project)}


def test_another_user_reads_nothing_of_the_state(project, everything):
    stored = sorted(project.state.rglob("*"))
    names = {path.name for path in stored}
    assert {"secrets.json", "label_studio.sqlite3", "ledger.db", "server-token"} <= names
    assert as_another_user([project.directory], [])["read"] == [str(project.directory)]
    assert as_another_user([project.state, *stored], [])["read"] == []


def test_nor_would_anyone_if_the_folder_were_opened_by_mistake(project, everything):
    assert [path for path in open_to_others(project.state) if path.suffix != ".json"] == []


def test_another_user_starts_no_run_activates_no_model_and_reads_no_labels(project, everything):
    prefect, model, labels = project.prefect.url, project.server_url, project.labeling.url
    asked = [
        ("GET", f"{prefect}/api/csrf-token?client=me", {}, None),
        ("POST", f"{prefect}/api/flows/filter", JSON, "{}"),
        ("POST", f"{prefect}/api/deployments/{uuid.uuid4()}/create_flow_run", JSON, "{}"),
        ("GET", f"{prefect}/api/admin/settings", {}, None),
        ("POST", f"{model}/model", JSON, "{}"),
        ("POST", f"{model}/model/canary", JSON, "{}"),
        ("GET", f"{labels}/api/projects", {}, None),
    ]
    # Prefect looks for the token of its own page first, which none gets without the password.
    assert as_another_user([], asked)["said"] == [401, 403, 403, *[401] * 4]


@pytest.mark.parametrize("name", SERVICES)
def test_a_page_whose_name_was_pointed_here_is_not_answered(project, everything, name):
    evil = {"Host": f"evil.example:{port(everything[name].url)}"}
    for path in ("/", "/health", "/api/health", "/health/"):
        assert httpx.get(f"{everything[name].url}{path}", headers=evil).status_code == 400


def test_the_page_of_another_site_changes_and_reads_nothing(project, everything):
    prefect, model, labels = project.prefect.url, project.server_url, project.labeling.url
    form = {**EVIL, "Content-Type": "text/plain"}
    for path in ("/predict", "/feedback", "/model"):
        assert httpx.post(f"{model}{path}", content="{}", headers=form).status_code == 403
    assert httpx.post(f"{prefect}/api/flows/filter", content="{}", headers=form).status_code == 403
    form = httpx.post(f"{labels}/user/login/", data={"email": "a"}, headers=EVIL)
    assert form.status_code == 403
    asks = {**EVIL, "Access-Control-Request-Method": "POST"}
    for url in (f"{prefect}/api/flows/filter", f"{model}/predict", f"{labels}/api/projects"):
        allowed = httpx.options(url, headers=asks).headers.get("access-control-allow-origin")
        assert allowed is None
        allowed = httpx.get(url, headers=EVIL).headers.get("access-control-allow-origin")
        assert allowed is None


def test_the_page_of_another_site_opens_no_websocket(project, everything):
    url = f"ws{project.prefect.url.removeprefix('http')}/api/events/in"
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(url, origin=EVIL["Origin"], subprotocols=["prefect"]),
    ):
        pass


def test_who_knows_the_password_needs_a_token_of_the_session_too(project, everything):
    name, _, password = stack.environment(project)["PREFECT_API_AUTH_STRING"].partition(":")
    url = f"{project.prefect.url}/api/flows/filter"
    said = httpx.post(url, json={}, auth=(name, password))
    assert (said.status_code, said.json()["detail"]) == (403, "Missing CSRF token.")


def test_another_project_shares_both_servers_and_no_model_server(project, everything, tmp_path):
    settings = (project.directory / "flywheel.toml").read_text()
    (tmp_path / "flywheel.toml").write_text(settings.replace('"toy"', '"second"'))
    second, reported = load_project(tmp_path), []
    again = stack.up(second, NAMES, progress=reported.append)
    assert {server.pid for server in again} == {everything[name].pid for name in NAMES}
    owned = f"shared with project 'toy', which owns it ({project.directory})"
    assert [line for line in reported if owned in line] == [f"{n}: {owned}" for n in NAMES]
    for name in ("PREFECT_API_AUTH_STRING", "LABEL_STUDIO_API_KEY"):
        assert stack.environment(second)[name] == stack.environment(project)[name]
    with pytest.raises(BusyError, match=r"is the model server of project 'toy', id \w{32}, and"):
        stack.up(second, progress=reported.append)
    assert {*stack.owners(second)} == {*NAMES}
    assert stack.down(second) == []


def test_a_project_whose_tasks_are_in_its_own_label_studio_moves_to_no_other(
    project, everything, tmp_path
):
    settings = (project.directory / "flywheel.toml").read_text()
    (tmp_path / "flywheel.toml").write_text(settings.replace('"toy"', '"third"'))
    third = load_project(tmp_path)
    (data := third.state / "label-studio").mkdir(parents=True)
    (server,) = [one for one in stack.running(project) if one.name == "label-studio"]
    theirs = Path(server.log).parents[1] / "label-studio" / "label_studio.sqlite3"
    studio = LabelStudioBackend.connect(
        project.labeling.url, stack.environment(project)["LABEL_STUDIO_API_KEY"]
    )
    config = '<View><Text name="t" value="$t"/><TextArea name="a" toName="t"/></View>'
    studio.ensure("of a guest", config, None)
    with (
        closing(sqlite3.connect(theirs)) as used,
        closing(sqlite3.connect(data / theirs.name)) as mine,
    ):
        used.backup(mine)
    with pytest.raises(BusyError, match=r"one of 'third' has labeling tasks.*labeling\] url"):
        stack.up(third, NAMES)
    assert (stack.running(third), stack.owners(third)) == ([], {})


def test_prefects_page_talks_to_its_own_server(project, servers):
    settings = httpx.get(f"{project.prefect.url}/ui-settings").json()
    assert settings["api_url"] == f"{project.prefect.url}/api"


@pytest.mark.parametrize("name", NAMES)
def test_a_server_listens_on_loopback_only(servers, name):
    listening = [c for c in servers[name].process().net_connections("inet") if c.status == "LISTEN"]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_a_second_up_is_over_in_less_than_a_second(project, servers):
    began = time.monotonic()
    again = stack.up(project, NAMES)
    assert time.monotonic() - began < 1
    assert {server.name: server for server in again} == servers


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_server_is_started_again_beside_the_other(project, servers, name):
    os.kill(servers[name].pid, signal.SIGKILL)
    wait_for_end(servers[name])
    again = {server.name: server for server in stack.up(project, NAMES)}
    assert {n for n in NAMES if again[n] != servers[n]} == {name}
    assert {server.name for server in stack.running(project)} >= {*NAMES}


def test_down_frees_the_ports_and_another_up_finds_its_data(project, servers):
    assert {*stack.down(project)} >= {*NAMES}
    for url in (project.prefect.url, project.labeling.url):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port(url)))
    token = stack.environment(project)["LABEL_STUDIO_API_KEY"]
    stack.up(project, ["label-studio"])
    headers = {"Authorization": f"Token {token}"}
    assert httpx.get(f"{project.labeling.url}/api/projects", headers=headers).status_code == 200


def test_a_taken_port_is_refused_before_label_studio_moves_to_the_next(only_prefect):
    reported = pytest.raises(BusyError, match=rf"held by pid {os.getpid()}.*\[prefect\] url")
    with socket.create_server(("127.0.0.1", port(only_prefect.prefect.url))), reported:
        stack.up(only_prefect, ["prefect"])
    assert stack.running(only_prefect) == []


def test_a_worker_starts_after_its_server_and_makes_its_pool(only_prefect):
    names = [server.name for server in stack.up(only_prefect, ["worker", "prefect"], pool="nights")]
    assert names == ["prefect", "worker"]
    name, _, password = stack.environment(only_prefect)["PREFECT_API_AUTH_STRING"].partition(":")
    url = f"{only_prefect.prefect.url}/api/work_pools/nights"
    assert httpx.get(url, auth=(name, password)).json()["type"] == "process"
    assert stack.down(only_prefect) == ["prefect", "worker"]


def test_the_shared_prefect_server_serves_this_process(prefect_server):
    with get_client(sync_client=True) as client:
        assert str(client.api_url) == f"{prefect_server}/api/"
        assert client.api_healthcheck() is None


def test_the_shared_prefect_server_serves_child_processes(prefect_server):
    code = (
        "from prefect.client.orchestration import get_client\n"
        "with get_client(sync_client=True) as client: print(client.api_url)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"{prefect_server}/api/"


def test_the_shared_label_studio_knows_its_user(label_studio):
    headers = {"Authorization": f"Token {label_studio.token}"}
    answer = httpx.get(f"{label_studio.url}/api/current-user/whoami", headers=headers)
    assert answer.json()["email"] == label_studio.email
