"""Real servers on free ports, started once a session by the product's own code.

Label Studio's database takes half a minute to make, so a fresh one is kept in the user's cache
(or in the folder named by LABEL_STUDIO_TEMPLATE) and copied: later sessions start in seconds.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from postgres import PostgresServer, find_programs, run_postgres

from flywheel.errors import UnavailableError
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials
from flywheel.stack.local import copy_empty_database, write_ahead
from flywheel.stack.process import Service
from flywheel.stack.supervise import start_all, stop_all

CREDENTIALS = Credentials(
    email="tests@example.com",
    password="password-of-the-tests",
    token="0123456789abcdef0123456789abcdef01234567",
    secret_key="secret-key-of-the-tests-0123456789abcdef0123456789abcdef",
    prefect_auth="flywheel:password-of-the-tests",
)
PINS = Path(__file__).parents[2] / "docker/label-studio.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelStudioServer:
    """A running Label Studio with one user and no project."""

    url: str
    token: str
    email: str
    password: str
    data: Path


def _free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="session")
def free_url() -> Callable[[], str]:
    """Makes a url on loopback where no server listens."""
    return _free_url


@contextlib.contextmanager
def _serving(service: Service, state: Path) -> Iterator[None]:
    try:
        start_all([service], state, print)
        yield
    finally:
        stop_all(state, print)


@pytest.fixture(scope="session")
def label_studio_program() -> Path:
    """Label Studio's executable; without it tests are skipped, but in CI they fail."""
    try:
        return catalogue.label_studio_program()
    except UnavailableError as error:
        missing = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    """Of the user whom the template of Label Studio's data knows."""
    return CREDENTIALS


@pytest.fixture(scope="session")
def label_studio_template(label_studio_program: Path, tmp_path_factory) -> Path:
    """Label Studio's data folder after its first start, one for each set of its versions."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel-tests"
    seal = hashlib.sha256(PINS.read_bytes() + repr(CREDENTIALS.token).encode()).hexdigest()[:12]
    template = Path(os.environ.get("LABEL_STUDIO_TEMPLATE") or cache / f"label-studio-{seal}")
    template.parent.mkdir(parents=True, exist_ok=True)
    with template.with_name(f"{template.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process makes it, the others wait for it
        if not (template / "label_studio.sqlite3").exists():
            _make_template(template, tmp_path_factory.mktemp("template"))
    return template


def _make_template(template: Path, fresh: Path) -> None:
    with _serving(catalogue.label_studio(fresh / "data", _free_url(), CREDENTIALS), fresh):
        pass
    write_ahead(fresh / "data")
    # Copied beside, then renamed: killed here, the next session finds nothing half made.
    scratch = template.with_name(f"{template.name}.{os.getpid()}")
    shutil.copytree(fresh / "data", scratch)
    scratch.rename(template)


@pytest.fixture(scope="session")
def label_studio(label_studio_template: Path, tmp_path_factory) -> Iterator[LabelStudioServer]:
    """One Label Studio for all tests of the session; make a project of your own in it."""
    state = tmp_path_factory.mktemp("label-studio")
    data, url = state / "data", _free_url()
    shutil.copytree(label_studio_template, data)
    write_ahead(data)  # a template from before has it not
    with _serving(catalogue.label_studio(data, url, CREDENTIALS), state):
        yield LabelStudioServer(
            url=url,
            token=CREDENTIALS.token,
            email=CREDENTIALS.email,
            password=CREDENTIALS.password,
            data=data,
        )


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[str]:
    """One Prefect server for all tests of the session; flows here and in child processes use it."""
    from prefect.settings import (  # noqa: PLC0415 - takes a second, and few tests need it
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_HOME,
        temporary_settings,
    )

    state = tmp_path_factory.mktemp("prefect")
    home, url, password = state / "clients", _free_url(), CREDENTIALS.prefect_auth
    copy_empty_database(state / "home", catalogue.empty_prefect())
    with (
        _serving(catalogue.prefect_server(state / "home", url, password), state),
        pytest.MonkeyPatch.context() as env,
    ):
        # The environment is for child processes; Prefect reads its own only when it is imported.
        env.setenv("PREFECT_API_URL", f"{url}/api")
        env.setenv("PREFECT_API_AUTH_STRING", password)
        env.setenv("PREFECT_HOME", str(home))
        known = {PREFECT_API_URL: f"{url}/api", PREFECT_API_AUTH_STRING: password}
        with temporary_settings({**known, PREFECT_HOME: home}):
            yield url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of the session; make a database of your own in it."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here; apt-get install postgresql brings it")
    with run_postgres(programs) as server:
        yield server
