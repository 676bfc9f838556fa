"""Real servers on free ports, started once a session by the product's own code.

Label Studio's database takes half a minute to make, so a fresh one is kept in the user's cache
(or in the folder named by LABEL_STUDIO_TEMPLATE) and copied: later sessions start in seconds.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from flywheel.errors import UnavailableError
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials
from flywheel.stack.local import write_ahead
from flywheel.stack.process import Service
from flywheel.stack.supervise import start_all, stop_all

CREDENTIALS = Credentials(
    email="tests@example.com",
    password="password-of-the-tests",
    token="0123456789abcdef0123456789abcdef01234567",
    secret_key="secret-key-of-the-tests-0123456789abcdef0123456789abcdef",
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
        PREFECT_API_URL,
        PREFECT_HOME,
        temporary_settings,
    )

    state = tmp_path_factory.mktemp("prefect")
    home, url = state / "clients", _free_url()
    with (
        _serving(catalogue.prefect_server(state / "home", url), state),
        pytest.MonkeyPatch.context() as env,
    ):
        # The environment is for child processes; Prefect reads its own only when it is imported.
        env.setenv("PREFECT_API_URL", f"{url}/api")
        env.setenv("PREFECT_HOME", str(home))
        with temporary_settings({PREFECT_API_URL: f"{url}/api", PREFECT_HOME: home}):
            yield url


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresServer:
    """A running PostgreSQL whose one user needs no password."""

    url: str
    """for SQLAlchemy, without the name of a database"""
    user: str
    port: int
    programs: Path
    """the folder of initdb, postgres and, mostly, of pg_dump"""


def _postgres_programs() -> Path | None:
    """The folder of initdb and postgres, on the path or where distributions put it."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in folders if (path / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of the session; make a database of your own in it."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here; apt-get install postgresql brings it")
    # PostgreSQL refuses to run as root; then it runs as its own user.
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        if owner:
            shutil.chown(folder, "postgres", "postgres")
        init = [programs / "initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **owner)
        start = [programs / "postgres", "-D", f"{folder}/data", "-k", folder, "-p", str(port)]
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(
                [*start, "-h", "127.0.0.1"], stdout=log, stderr=log, cwd=folder, **owner
            )
        try:
            url = f"postgresql+psycopg://postgres@127.0.0.1:{port}"
            _wait_for_postgres(f"{url}/postgres", process)
            yield PostgresServer(url=url, user="postgres", port=port, programs=programs)
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(30)


def _wait_for_postgres(url: str, process: subprocess.Popen) -> None:
    engine, deadline = create_engine(url), time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            return engine.dispose()
        except OperationalError:
            assert process.poll() is None, "PostgreSQL ended while it was starting"
            assert time.monotonic() < deadline, "PostgreSQL does not answer after 30 seconds"
            time.sleep(0.1)
