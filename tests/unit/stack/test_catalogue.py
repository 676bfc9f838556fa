import sys

import pytest

from flywheel.errors import UnavailableError
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials

CREDENTIALS = Credentials(email="a@example.com", password="p", token="t" * 40, secret_key="k")
URL = "http://localhost:4999"


@pytest.fixture
def binary(tmp_path, monkeypatch):
    path = tmp_path / "label-studio"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("LABEL_STUDIO_BIN", str(path))
    return path


def test_every_server_binds_to_loopback(tmp_path, binary):
    prefect = catalogue.prefect_server(tmp_path, URL, "a:b")
    studio = catalogue.label_studio(tmp_path, URL, CREDENTIALS)
    assert prefect.argv[-4:] == ("--host", "127.0.0.1", "--port", "4999")
    assert studio.argv[-4:] == ("--internal-host", "127.0.0.1", "--port", "4999")


def test_prefects_dashboard_gets_its_own_address(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    assert catalogue.prefect_server(tmp_path, URL, "a:b").env["PREFECT_API_URL"] == f"{URL}/api"


def test_prefects_server_takes_the_users_database_but_no_other_servers_profile(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql://x")
    monkeypatch.setenv("PREFECT_PROFILE", "cloud")
    env = catalogue.prefect_server(tmp_path, URL, "a:b").env
    assert env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql://x"
    assert "PREFECT_PROFILE" not in env


def test_no_server_calls_home(tmp_path, binary):
    assert catalogue.prefect_server(tmp_path, URL, "a:b").env["DO_NOT_TRACK"] == "1"
    env = catalogue.label_studio(tmp_path, URL, CREDENTIALS).env
    assert (env["SENTRY_DSN"], env["FRONTEND_SENTRY_DSN"]) == ("", "")
    assert env["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"


def test_label_studio_sees_nothing_of_our_environment(tmp_path, binary, monkeypatch):
    for name in ("LABEL_STUDIO_HOST", "HEARTEX_PORT", "HOST", "DEBUG", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "ours")
    env = catalogue.label_studio(tmp_path, URL, CREDENTIALS).env
    assert "ours" not in env.values()


def test_secrets_travel_in_the_environment_and_are_not_printed(tmp_path, binary):
    service = catalogue.label_studio(tmp_path, URL, CREDENTIALS)
    assert CREDENTIALS.token not in f"{service!r} {service.argv}"


def test_only_the_first_start_is_announced_as_slow(tmp_path, binary):
    before = catalogue.label_studio(tmp_path, URL, CREDENTIALS).note
    (tmp_path / "label_studio.sqlite3").touch()
    after = catalogue.label_studio(tmp_path, URL, CREDENTIALS).note
    assert ("30 s" in before, after) == (True, "")


def test_the_named_program_is_taken(binary):
    assert catalogue.label_studio_program() == binary


def test_a_named_program_that_is_missing_is_not_replaced_by_another(monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_BIN", "/no/such/label-studio")
    with pytest.raises(UnavailableError, match=r"LABEL_STUDIO_BIN=/no/such/label-studio"):
        catalogue.label_studio_program()


def test_the_environment_beside_ours_comes_before_the_path(tmp_path, binary, monkeypatch):
    beside = tmp_path / ".venv-label-studio/bin/label-studio"
    beside.parent.mkdir(parents=True)
    binary.rename(beside)
    monkeypatch.delenv("LABEL_STUDIO_BIN")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert catalogue.label_studio_program() == beside


def test_prefects_server_has_a_password_and_serves_its_own_pages_only(tmp_path):
    public = "https://runs.example.com"
    service = catalogue.prefect_server(tmp_path, URL, "flywheel:open sesame", [public])
    env = service.env
    assert env["PREFECT_SERVER_API_AUTH_STRING"] == "flywheel:open sesame"
    assert env["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    own = f"{URL},http://127.0.0.1:4999,{public}"
    assert env["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == own
    assert [service.argv[n + 1] for n, w in enumerate(service.argv) if w == "--page"] == [
        URL,
        public,
    ]
    assert "sesame" not in f"{service!r} {service.argv}"


def test_label_studio_serves_its_own_names_and_pages_only(tmp_path, binary):
    public = ["https://labels.example.com"]
    env = catalogue.label_studio(tmp_path, URL, CREDENTIALS, public).env
    assert env["ALLOWED_HOSTS"] == "127.0.0.1,[::1],labels.example.com,localhost"
    assert env["CORS_ALLOWED_ORIGINS"] == f"{URL},http://127.0.0.1:4999,{public[0]}"


def test_a_server_with_another_password_or_page_is_started_again(tmp_path, binary):
    started = {
        catalogue.prefect_server(tmp_path, URL, password, pages).settings
        for password, pages in [("a:b", ()), ("a:c", ()), ("a:b", ("https://x.example",))]
    }
    assert len(started) == 3


def test_the_model_server_runs_in_its_project_with_our_python(tmp_path):
    service = catalogue.model_server(tmp_path, URL, {"PREFECT_API_URL": "u"})
    assert service.argv == (sys.executable, "-P", "-m", "flywheel", "serve", str(tmp_path))
    assert (service.directory, service.env["PREFECT_API_URL"]) == (tmp_path, "u")
