"""The programs of a local stack: command line, environment and health check of each.

Every setting that a server must have is in this file, with its reason. All of them bind to
loopback, report to no one and keep their files in the project's state folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flywheel.errors import UnavailableError
from flywheel.guard import LOOPBACK, origins_of
from flywheel.stack.credentials import Credentials
from flywheel.stack.process import HEALTH, Service
from flywheel.stack.supervise import port_of

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE")
"""all that Label Studio sees of our environment: it reads names as plain as HOST and DEBUG"""


def prefect_server(home: Path, url: str, password: str, pages: Sequence[str] = ()) -> Service:
    """Prefect's server, with its database and everything else below `home`.

    Args:
        home: its folder.
        url: where it listens.
        password: `user:password`, without which it answers nothing but whether it is healthy.
        pages: other addresses by which users' browsers reach it.
    """
    host, port = _address(url)
    own = [url, *pages]
    env = {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        # By default the page of any site may read what it answers.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            dict.fromkeys(origin for page in own for origin in origins_of(page))
        ),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_HOME": str(home),
        # Without it the dashboard's page talks to port 4200, wherever the server is.
        "PREFECT_API_URL": f"{url.rstrip('/')}/api",
        # Leases in memory are lost with a restart, and then a held slot is never freed.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Otherwise flow runs are kept for ever; what must last is in our ledger.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }
    return Service(
        name="prefect",
        argv=_module(
            "flows.helpers.prefect_server",
            *(word for page in own for word in ("--page", page)),
            *("--host", host, "--port", port),
        ),
        env={**_without_prefect_client(), **env},
        directory=home,
        url=url,
        health=HEALTH["prefect"],
        setting="[prefect] url",
        own=f"; if it is your own Prefect, set PREFECT_API_URL={url.rstrip('/')}/api",
        settings=_digest(password, *own),
    )


def label_studio(
    data: Path, url: str, credentials: Credentials, pages: Sequence[str] = ()
) -> Service:
    """Label Studio from its own environment, with its database and files below `data`.

    `pages` are other addresses by which annotators' browsers reach it.
    """
    host, port = _address(url)
    is_slow = not (data / "label_studio.sqlite3").exists() and not empty_database().exists()
    return Service(
        name="label-studio",
        argv=(
            *(str(label_studio_program()), "start", "--no-browser", "--enable-legacy-api-token"),
            *("--internal-host", host, "--port", port),
        ),
        env=_label_studio_env(data, credentials) | _only_for([url, *pages]),
        directory=data,
        url=url,
        health=HEALTH["label-studio"],
        note="the first start makes its database, about 30 s" if is_slow else "",
        setting="[labeling] url",
        own="; if it is your own Label Studio, set LABEL_STUDIO_API_KEY to your access token",
        start_seconds=300.0,  # a first start on a busy machine
        settings=_digest(url, *pages),
    )


def model_server(directory: Path, url: str, clients: dict[str, str], settings: str = "") -> Service:
    """The project's own model server."""
    return Service(
        name="model-server",
        argv=_module("flywheel", "serve", str(directory)),
        env={**os.environ, **clients, "PYTHONUNBUFFERED": "1"},
        directory=directory,
        url=url,
        health=HEALTH["model-server"],
        setting="[serve] port",
        settings=settings,
    )


def prefect_worker(
    directory: Path, pool: str, clients: dict[str, str], *, name: str = "worker"
) -> Service:
    """A process worker that runs the project's deployments; it creates its pool if there is none."""
    argv = _module("flows.helpers.worker", "--pool", pool, "--directory", str(directory))
    # The caller may have silenced Prefect on a terminal; the worker's log keeps the runs' output.
    quiet = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    return Service(
        name=name,
        argv=argv,
        env={**os.environ, **clients, **quiet},
        directory=directory,
        ready_line="started!",
    )


def label_studio_program() -> Path:
    """Label Studio's executable: LABEL_STUDIO_BIN, the environment beside ours, or the PATH.

    Raises:
        UnavailableError: it is not in any of these places.
    """
    named = os.environ.get("LABEL_STUDIO_BIN")
    beside = Path(sys.prefix).parent / ".venv-label-studio/bin/label-studio"
    found = shutil.which(named or beside) or (None if named else shutil.which("label-studio"))
    if found is None:
        where = f"LABEL_STUDIO_BIN={named}" if named else f"{beside} or on PATH"
        raise UnavailableError(
            f"label-studio: no program at {where}; make setup installs it, "
            f"or set LABEL_STUDIO_BIN to its executable"
        )
    return Path(found).absolute()


def empty_database() -> Path:
    """The database file with empty tables that `make` has put beside Label Studio's program."""
    return label_studio_program().parents[1] / "empty/label_studio.sqlite3"


def empty_prefect() -> Path:
    """The same of Prefect, in our own environment."""
    return Path(sys.prefix) / "empty/prefect.db"


def _label_studio_env(data: Path, credentials: Credentials) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    home = data / "home"
    return {
        **inherited,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local"),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": credentials.email,
        "LABEL_STUDIO_PASSWORD": credentials.password,
        "LABEL_STUDIO_USER_TOKEN": credentials.token,
        "SECRET_KEY": credentials.secret_key,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        # The default of both is a real address; empty switches them off.
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        # Its webhooks must reach our model server, which is on loopback too.
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "DJANGO_DB": "sqlite",
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _only_for(pages: Sequence[str]) -> dict[str, str]:
    """The variables by which Label Studio answers to its own names and pages only."""
    names = LOOPBACK | {urlsplit(page).hostname or "" for page in pages}
    return {
        "ALLOWED_HOSTS": ",".join(sorted(f"[{name}]" if ":" in name else name for name in names)),
        "CORS_ALLOWED_ORIGINS": ",".join(origin for page in pages for origin in origins_of(page)),
        "CSRF_TRUSTED_ORIGINS": ",".join(origin for page in pages for origin in origins_of(page)),
    }


def _digest(*texts: str) -> str:
    """What distinguishes two starts of a service with other settings."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _without_prefect_client() -> dict[str, str]:
    """Our environment without the profile and address of another server; the rest is the user's."""
    kept = ("PREFECT_SERVER_", "PREFECT_LOGGING_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") or name.startswith(kept)
    }


def _address(url: str) -> tuple[str, str]:
    host = urlsplit(url).hostname or "127.0.0.1"
    return ("127.0.0.1" if host == "localhost" else host), str(port_of(url))


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    # -P: it may run in the project's folder, whose own flows/ or logging.py would come first.
    return (sys.executable, "-P", "-m", name, *arguments)
