import pytest

from flywheel.errors import SettingsError
from flywheel.serve import create_app


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


@pytest.mark.parametrize("given", [None, "Bearer wrong", "open sesame", "Bearer", "Bearer ö"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predict"),
        ("POST", "/feedback"),
        ("POST", "/model"),
        ("POST", "/model/canary"),
        ("GET", "/model"),
        ("GET", "/"),
        ("GET", "/reports/night-0000.html"),
        ("GET", "/openapi.json"),
    ],
)
def test_without_the_token_every_endpoint_but_health_is_401(guarded, method, path, given):
    headers = {} if given is None else {"Authorization": given.encode()}
    refused = guarded.request(method, path, headers=headers)
    assert refused.status_code == 401
    assert "FLYWHEEL_SERVER_TOKEN" in refused.json()["detail"]
    assert "sesame" not in refused.text


def test_health_needs_no_token(guarded):
    assert guarded.get("/health").status_code == 200


def test_with_the_token_everything_answers(guarded, predict):
    headers = {"Authorization": "Bearer open sesame"}
    assert predict(guarded, 1.0, **headers).status_code == 200
    assert guarded.get("/", headers=headers).status_code == 200


def test_a_browser_is_asked_for_a_password_for_pages_only(guarded):
    for path in ("/", "/reports/night-0000.html"):
        assert guarded.get(path).headers["WWW-Authenticate"] == 'Basic realm="flywheel"'
    assert guarded.get("/model").headers["WWW-Authenticate"] == "Bearer"
    assert guarded.post("/").headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("user", ["", "anybody"])
def test_the_token_as_password_opens_pages_for_any_user(guarded, user):
    assert guarded.get("/", auth=(user, "open sesame")).status_code == 200
    assert guarded.get("/reports/none.html", auth=(user, "open sesame")).status_code == 404


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
