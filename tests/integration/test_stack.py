"""The real Prefect and Label Studio, from their very first start, as `flywheel up` starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from prefect.client.orchestration import get_client

from flywheel import stack
from flywheel.errors import BusyError
from flywheel.project import Project
from flywheel.settings.labeling import LabelingSettings
from flywheel.settings.operations import Identity
from flywheel.settings.operations import Prefect as PrefectSettings

pytestmark = pytest.mark.integration

NAMES = ("prefect", "label-studio")


@pytest.fixture(scope="module")
def project(tmp_path_factory, label_studio_program, free_url):
    made = Project(
        directory=tmp_path_factory.mktemp("project"),
        project=Identity(name="toy", task="toy:task"),
        prefect=PrefectSettings(url=free_url()),
        labeling=LabelingSettings(url=free_url()),
    )
    yield made
    stack.down(made)


@pytest.fixture(autouse=True)
def no_other_servers(request, monkeypatch):
    """What the environment names wins, and other tests of this session name their own servers."""
    if "prefect_server" not in request.fixturenames:
        for name in ("LABEL_STUDIO_API_KEY", "PREFECT_API_URL"):
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
    assert sorted(server.name for server in stack.running(project)) == sorted(NAMES)


def test_down_frees_the_ports_and_another_up_finds_its_data(project, servers):
    assert stack.down(project) == sorted(NAMES)
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
    pool = httpx.get(f"{only_prefect.prefect.url}/api/work_pools/nights")
    assert pool.json()["type"] == "process"
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
