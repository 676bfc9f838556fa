import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from flywheel import stack
from flywheel.errors import BusyError, SettingsError
from flywheel.settings.labeling import LabelingSettings
from flywheel.settings.operations import Prefect as PrefectSettings
from flywheel.settings.operations import Serve
from flywheel.stack.credentials import ensure_credentials
from flywheel.stack.sharing import is_theirs

PASSWORDS = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")


def test_a_name_that_is_no_service_is_refused_with_the_ones_that_are(project):
    with pytest.raises(SettingsError, match=r"no service redis; there are prefect, label-studio"):
        stack.up(project, ["redis", "prefect"])
    assert not project.state.exists()


def test_two_services_on_one_port_are_refused_by_their_settings(project):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # one that no project of this machine has
    both = {"serve": Serve(port=port), "prefect": PrefectSettings(url=f"http://127.0.0.1:{port}")}
    same = project.model_copy(update=both)
    reported = rf"port {port}.*\[prefect\] url and \[serve\] port"
    with pytest.raises(SettingsError, match=reported):
        stack.up(same, ["prefect", "model-server"])
    assert stack.running(same) == []


def test_a_server_elsewhere_is_left_to_its_owner(project):
    settings = {
        "prefect": PrefectSettings(url="https://prefect.example.com"),
        "labeling": LabelingSettings(url="http://10.0.0.7:8080"),
        "serve": Serve(host="0.0.0.0"),
    }
    reported = []
    assert stack.up(project.model_copy(update=settings), progress=reported.append) == []
    assert [line.endswith("not started") for line in reported] == [True, True, True]


@pytest.fixture
def answering():
    """The address of a program of this machine that answers every question with 200."""

    class Yes(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["label-studio", "prefect"])
def test_a_server_of_ones_own_on_this_machine_is_used_if_the_environment_means_it(
    project, nothing_set, monkeypatch, answering, name
):
    settings = {
        "prefect": PrefectSettings(url=answering),
        "labeling": LabelingSettings(url=answering),
    }
    mine = project.model_copy(update=settings)
    with pytest.raises(BusyError, match=r"cannot be used .* your own"):  # it may be a stranger's
        stack.up(mine, [name])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "mine")
    monkeypatch.setenv("PREFECT_API_URL", f"{answering}/api")
    said = []
    assert stack.up(mine, [name], progress=said.append) == []
    assert said == [f"{name}: uses your own, which answers at {answering}"]
    assert stack.sign_in(mine, "label-studio").startswith("with your account there")
    assert stack.sign_in(mine, "prefect") == "with the password of that server, if it has one"


def test_a_server_that_the_environment_means_and_that_does_not_answer_is_started(
    project, nothing_set, monkeypatch
):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "mine")
    silent = LabelingSettings(url="http://127.0.0.1:9")
    assert not is_theirs(project.model_copy(update={"labeling": silent}), "label-studio")


def test_nothing_runs_and_nothing_stops_before_the_first_start(project):
    assert stack.running(project) == []
    assert stack.down(project, progress=print) == []


@pytest.fixture
def nothing_set(monkeypatch):
    own = ("LABEL_STUDIO_API_KEY", "FLYWHEEL_WEBHOOK_SECRET")
    for name in (*own, "PREFECT_API_URL", *PASSWORDS):
        monkeypatch.delenv(name, raising=False)


def test_clients_learn_the_addresses_and_the_secrets(project, nothing_set):
    drawn = ensure_credentials(project.state)
    assert stack.environment(project) == {
        "PREFECT_API_URL": "http://127.0.0.1:4280/api",
        "PREFECT_API_AUTH_STRING": drawn.prefect_auth,
        "LABEL_STUDIO_API_KEY": drawn.token,
        "FLYWHEEL_WEBHOOK_SECRET": drawn.webhook_secret,
    }


def test_what_is_set_already_wins(project, monkeypatch):
    ensure_credentials(project.state)
    mine = {
        "PREFECT_API_URL": "http://elsewhere/api",
        "PREFECT_API_AUTH_STRING": "me:mine",
        "LABEL_STUDIO_API_KEY": "mine",
        "FLYWHEEL_WEBHOOK_SECRET": "mine too",
    }
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    assert stack.environment(project) == mine


def test_the_local_secrets_are_not_offered_to_a_label_studio_elsewhere(project, nothing_set):
    ensure_credentials(project.state)
    elsewhere = LabelingSettings(url="https://labels.example.com")
    moved = project.model_copy(update={"labeling": elsewhere})
    assert set(stack.environment(moved)) == {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}


def test_nor_is_prefects_password_to_a_prefect_elsewhere(project, nothing_set):
    ensure_credentials(project.state)
    elsewhere = PrefectSettings(url="https://prefect.example.com")
    moved = project.model_copy(update={"prefect": elsewhere})
    assert "PREFECT_API_AUTH_STRING" not in stack.environment(moved)


def test_how_to_sign_in_is_said_without_the_password(project, nothing_set, monkeypatch):
    said = stack.sign_in(project, "prefect")
    drawn = ensure_credentials(project.state).prefect_auth
    assert said == f'sign in with "prefect_auth" in {project.state}/secrets.json'
    assert drawn.partition(":")[2] not in said
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert stack.sign_in(project, "prefect") == "sign in with your PREFECT_SERVER_API_AUTH_STRING"
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", drawn)  # as a command sets it for itself
    assert stack.sign_in(project, "prefect") == said


def test_the_login_names_the_file_with_the_password(project):
    door = stack.login(project)
    assert (door.url, door.email) == (project.labeling.url, "flywheel@example.com")
    assert ensure_credentials(project.state).password in door.password_file.read_text()


def test_the_stack_imports_neither_prefect_nor_torch():
    code = "import sys, flywheel.stack; print({'prefect', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
