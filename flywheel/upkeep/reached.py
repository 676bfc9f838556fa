"""Checks of the servers for flywheel doctor: do they answer, take our token, and agree on the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from flywheel.annotate import LabelStudioBackend
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.releases import current_release
from flywheel.project import Project
from flywheel.serve import ModelServer
from flywheel.upkeep.dumps import is_sqlite
from flywheel.upkeep.finding import Finding, fail, ok

_TIMEOUT_SECONDS = 3.0
_CLOCK_SECONDS = 60.0


def label_studio(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Label Studio answers and takes our token."""
    url = project.labeling.url.rstrip("/")
    there = _json_at(project, f"{url}/api/version")
    LabelStudioBackend.connect(url, environment.get("LABEL_STUDIO_API_KEY"), sleep=lambda _: None)
    yield ok("Label Studio", f"{url} answers and takes the token, version {_release(there)}")


def model_server(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the model server is this project's, and serves what was released."""
    token = environment.get("FLYWHEEL_SERVER_TOKEN")
    _get(project, f"{project.server_url}/health")
    serving = ModelServer(project.server_url, token, project=project.name).digest()
    released = _released(project)
    if serving == released:
        what = f"serves {serving[:12]}, which was released" if serving else "waits for a release"
        yield ok("model server", f"{project.server_url} {what}")
    else:
        yield fail(
            "model server",
            f"{project.server_url} serves {_short(serving)}, and {_short(released)} was released: "
            f"flywheel down {project.directory}, then flywheel up {project.directory}",
        )


def clocks(project: Project) -> Iterator[Finding]:
    """Whether the clocks of the servers and of this machine agree."""
    differences = {}
    for url in (project.prefect.url, project.labeling.url, project.server_url):
        try:
            date = _get(project, url).headers.get("date")
        except UnavailableError:
            continue
        if date is not None:
            away = parsedate_to_datetime(date) - datetime.now(UTC)
            differences[url] = away.total_seconds()
    wrong = {url: seconds for url, seconds in differences.items() if abs(seconds) > _CLOCK_SECONDS}
    for url, seconds in wrong.items():
        yield fail(
            "clock",
            f"that of {url} is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}: set both by "
            "the network, sudo timedatectl set-ntp true",
        )
    if not wrong:
        agree = f"{len(differences)} servers agree" if differences else "no server was there to ask"
        yield ok("clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {agree}")


def _released(project: Project) -> str | None:
    url = project.ledger_url
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        return None
    with closing(Ledger.open(url)) as ledger, ledger.read() as connection:
        release = current_release(connection)
    return release.checkpoint_digest if release is not None else None


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"


def _release(answer: object) -> str:
    return str(answer.get("release", "unknown")) if isinstance(answer, dict) else "unknown"


def _get(project: Project, url: str) -> httpx.Response:
    try:
        return httpx.get(url, timeout=_TIMEOUT_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise silent(project, url, error) from error


def _json_at(project: Project, url: str) -> Any:
    """The JSON that a url answers with."""
    try:
        return _get(project, url).json()
    except ValueError as error:
        raise another_program(url, error) from error


def another_program(url: str, error: ValueError) -> UnavailableError:
    """The error for a server that does not answer as it should."""
    return UnavailableError(
        f"what answers at {url} is another program, or has lost its files ({error}); "
        "flywheel down and flywheel up start it anew, or correct its address in flywheel.toml"
    )


def silent(project: Project, url: str, error: httpx.HTTPError) -> UnavailableError:
    """The error for a server that does not answer."""
    return UnavailableError(
        f"{url} does not answer: {error or type(error).__name__}; on this machine "
        f"flywheel up {project.directory} starts it"
    )
