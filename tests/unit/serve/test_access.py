import struct

import pytest
from sqlalchemy import func, select

from flywheel.errors import SettingsError
from flywheel.ledger.tables import predictions
from flywheel.serve.access import token_file
from flywheel.serve.app import create_app
from flywheel.settings.operations import Links

PAIR = struct.pack("<2f", 1.0, 0.9)


@pytest.fixture
def beyond_loopback(project):
    return project.model_copy(
        update={"serve": project.serve.model_copy(update={"host": "0.0.0.0"})}
    )


@pytest.fixture
def guarded(release, serve, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    release(0.0)
    return serve()


def test_beyond_loopback_no_server_starts_without_a_token(beyond_loopback, task, ledger, blobs):
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0.*FLYWHEEL_SERVER_TOKEN"):
        create_app(beyond_loopback, task, ledger, blobs)


def test_beyond_loopback_a_server_with_a_token_starts(
    beyond_loopback, task, ledger, blobs, monkeypatch
):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    assert create_app(beyond_loopback, task, ledger, blobs)


ENDPOINTS = [
    ("POST", "/predict"),
    ("POST", "/feedback"),
    ("POST", "/model"),
    ("POST", "/model/canary"),
    ("GET", "/model"),
    ("GET", "/"),
    ("GET", "/reports/night-0000.html"),
    ("GET", "/openapi.json"),
]


@pytest.mark.parametrize("given", [None, "Bearer wrong", "open sesame", "Bearer", "Bearer ö"])
def test_without_the_token_every_endpoint_but_health_is_401(guarded, given):
    headers = {} if given is None else {"Authorization": given.encode()}
    for method, path in ENDPOINTS:
        refused = guarded.request(method, path, headers=headers)
        assert (refused.status_code, path) == (401, path)
        assert "FLYWHEEL_SERVER_TOKEN" in refused.json()["detail"]
        assert "sesame" not in refused.text


def test_health_needs_no_token(guarded):
    assert guarded.get("/health").status_code == 200


def test_with_the_token_everything_answers(guarded, predict):
    headers = {"Authorization": "Bearer open sesame"}
    assert predict(guarded, 1.0, **headers).status_code == 200
    assert guarded.get("/model", headers=headers).status_code == 200


def test_a_browser_is_asked_for_a_password_for_pages_only(guarded):
    for path in ("/", "/reports/night-0000.html", "/pages/samples"):
        assert guarded.get(path).headers["WWW-Authenticate"] == 'Basic realm="flywheel"'
    assert guarded.get("/model").headers["WWW-Authenticate"] == "Bearer"
    assert guarded.post("/").headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("user", ["", "anybody"])
def test_the_token_as_password_opens_pages_for_any_user(guarded, user):
    for path in ("/", "/pages/", "/reports/none.html"):  # let through; this server has no site
        assert guarded.get(path, auth=(user, "open sesame")).status_code == 404


@pytest.mark.parametrize("password", ["", "wrong", "open sesame2"])
def test_another_password_opens_nothing(guarded, password):
    assert guarded.get("/", auth=("anybody", password)).status_code == 401


@pytest.mark.parametrize("given", ["Basic", "Basic !", "Basic b3BlbiBzZXNhbWU="])
def test_a_broken_password_header_is_401(guarded, given):
    assert guarded.get("/", headers={"Authorization": given}).status_code == 401


def test_a_password_changes_nothing_and_reads_no_metrics(guarded, predict):
    password = ("anybody", "open sesame")
    assert guarded.get("/metrics", auth=password).status_code == 401
    assert guarded.post("/model", json={}, auth=password).status_code == 401


COMMANDS = [
    ("POST", "/model"),
    ("POST", "/model/canary"),
    ("PUT", "/model"),
    ("POST", "/pages/send"),
]
CALLS = [("POST", f"/{path}") for path in ("predict", "predictions", "feedback")] + COMMANDS


@pytest.fixture
def caller(server):
    """A program on this machine that knows no token."""
    del server.headers["Authorization"]
    return server


@pytest.mark.parametrize(("method", "path"), COMMANDS)
def test_on_loopback_a_command_needs_the_token_of_the_state_folder(caller, project, method, path):
    refused = caller.request(method, path, json={})
    assert (refused.status_code, "server-token" in refused.json()["detail"]) == (401, True)
    token = token_file(project).read_text()
    known = {"Authorization": f"Bearer {token}"}
    assert caller.request(method, path, headers=known).status_code != 401
    assert token not in refused.text


def test_the_token_of_the_state_folder_is_its_owners(caller, project):
    assert token_file(project).stat().st_mode & 0o777 == 0o600
    assert project.state.stat().st_mode & 0o777 == 0o700


def test_on_loopback_callers_and_readers_need_no_token(caller, predict):
    answered = predict(caller, 1.0)
    assert answered.status_code == 200
    outcome = {"request_id": answered.json()["request_id"], "kind": "outcome", "value": True}
    assert caller.post("/feedback", json=outcome).status_code == 200
    assert caller.get("/model").status_code == caller.get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[", "a b"])
@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "/"), ("GET", "/health")])
def test_a_foreign_host_reads_and_changes_nothing(server, method, path, host):
    refused = server.request(method, path, content=PAIR, headers={"Host": host})
    assert refused.status_code == 400


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_page_of_another_site_changes_nothing(server, ledger, method, path, headers):
    """A form posts text/plain or multipart without asking first, whatever the page's site."""
    form = {"Content-Type": "text/plain", **headers}
    assert server.request(method, path, content=PAIR, headers=form).status_code == 403
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar() == 0


def test_the_servers_own_page_may_send(server, predict):
    own = str(server.base_url).rstrip("/")
    assert predict(server, 1.0, Origin=own).status_code == 200
    assert predict(server, 1.0, **{"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_the_address_of_links_is_a_name_of_the_server(release, serve, project, predict):
    release(0.0)
    links = Links(model_server="https://models.example.com")
    client = serve(project.model_copy(update={"links": links}))
    from_afar = {"Host": "models.example.com", "Origin": "https://models.example.com"}
    assert predict(client, 1.0, **from_afar).status_code == 200
    assert client.get("/", headers={"Host": "other.example.com"}).status_code == 400


def test_beyond_loopback_every_name_will_do_since_all_needs_the_token(
    beyond_loopback, release, serve, predict, monkeypatch
):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    release(0.0)
    client = serve(beyond_loopback)
    assert predict(client, 1.0, Host="model-server").status_code == 401
    known = {"Host": "model-server", "Authorization": "Bearer open sesame"}
    assert predict(client, 1.0, **known).status_code == 200
    assert predict(client, 1.0, **known, Origin="http://evil.example").status_code == 403
