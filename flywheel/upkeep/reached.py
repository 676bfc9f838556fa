"""What a doctor asks of the servers: do they answer, do they know us, and what time is it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from flywheel.errors import UnavailableError
from flywheel.label import Studio
from flywheel.ledger import Ledger
from flywheel.ledger.models import current_release
from flywheel.project import Project
from flywheel.serve import ModelServer
from flywheel.stack.planned import planned
from flywheel.stack.pools import gpu_pool, run_pool
from flywheel.stack.runs import prefect_login
from flywheel.upkeep.dumps import is_sqlite
from flywheel.upkeep.finding import Finding, fail, ok, warn

_TIMEOUT_SECONDS = 3.0
_CLOCK_SECONDS = 60.0


def prefect(project: Project) -> Iterator[Finding]:
    """Whether Prefect's server answers and has our version."""
    url = f"{project.prefect.url.rstrip('/')}/api/admin/version"
    there, here = str(_told(project, url, prefect_login())), version("prefect")
    if there.split(".")[:2] != here.split(".")[:2]:
        yield warn(
            "Prefect", f"its server is {there} and {here} is installed here: make them equal"
        )
    else:
        yield ok("Prefect", f"{project.prefect.url} answers, version {there}")


def schedule(project: Project) -> Iterator[Finding]:
    """Whether nights are planned, somebody takes them up, and the last ones went well."""
    try:
        found = planned(project)
    except UnavailableError:
        yield fail("schedule", "not known while Prefect does not say what is planned")
        return
    first, *others = found.lines(project)
    line = first.partition(" ")[2].strip()
    is_here = found.directory == project.directory
    if found.directory is None or (is_here and (found.is_paused or found.next_night is None)):
        yield warn("schedule", line)
    else:
        yield (ok if is_here else fail)("schedule", line)
    for other in others:
        name, _, rest = other.partition(" ")
        yield warn(name, rest.strip())
    if found.directory is not None:
        yield from _workers(project)


def label_studio(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Label Studio answers and takes our token."""
    url = project.labeling.url.rstrip("/")
    there = _told(project, f"{url}/api/version")
    Studio.connect(url, environment.get("LABEL_STUDIO_API_KEY"), sleep=lambda _: None)
    yield ok("Label Studio", f"{url} answers and takes the token, version {_release(there)}")


def model_server(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the model server is ours, and serves what was released."""
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
    """Whether the servers have the time of this machine."""
    differences = {}
    for url in (project.prefect.url, project.labeling.url, project.server_url):
        try:
            said = _get(project, url).headers.get("date")
        except UnavailableError:
            continue
        if said is not None:
            away = parsedate_to_datetime(said) - datetime.now(UTC)
            differences[url] = away.total_seconds()
    wrong = {url: one for url, one in differences.items() if abs(one) > _CLOCK_SECONDS}
    for url, seconds in wrong.items():
        yield fail(
            "clock",
            f"that of {url} is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}: set both by "
            "the network, sudo timedatectl set-ntp true",
        )
    if not wrong:
        agree = f"{len(differences)} servers agree" if differences else "no server was there to ask"
        yield ok("clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {agree}")


def _workers(project: Project) -> Iterator[Finding]:
    for pool in filter(None, {run_pool(project), gpu_pool(project)}):
        url = f"{project.prefect.url.rstrip('/')}/api/work_pools/{pool}/workers/filter"
        found = _post(project, url)
        alive = [one["name"] for one in found if one["status"] == "ONLINE"]
        if alive:
            yield ok("worker", f"take up the runs of the work pool {pool}: {len(alive)}")
        else:
            yield fail(
                "worker",
                f"none takes up the runs of the work pool {pool}: flywheel up {project.directory} "
                "starts the project's own; a team's is started where it belongs",
            )


def _released(project: Project) -> str | None:
    url = project.ledger_url
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        return None
    with closing(Ledger.open(url)) as ledger, ledger.read() as connection:
        release = current_release(connection)
    return release.checkpoint_digest if release is not None else None


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"


def _release(said: object) -> str:
    return str(said.get("release", "unknown")) if isinstance(said, dict) else "unknown"


def _get(project: Project, url: str, auth: tuple[str, str] | None = None) -> httpx.Response:
    try:
        return httpx.get(url, auth=auth, timeout=_TIMEOUT_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise _silent(project, url, error) from error


def _told(project: Project, url: str, auth: tuple[str, str] | None = None) -> Any:
    """The JSON of an answer."""
    try:
        return _get(project, url, auth).json()
    except ValueError as error:
        raise UnavailableError(
            f"what answers at {url} is another program, or has lost its files ({error}); "
            "flywheel down and flywheel up start it anew, or mend its address in flywheel.toml"
        ) from error


def _post(project: Project, url: str) -> list[dict[str, object]]:
    try:
        answer = httpx.post(
            url, json={}, auth=prefect_login(), timeout=_TIMEOUT_SECONDS, trust_env=False
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise _silent(project, url, error) from error
    found: list[dict[str, object]] = answer.json()
    return found


def _silent(project: Project, url: str, error: httpx.HTTPError) -> UnavailableError:
    return UnavailableError(
        f"{url} does not answer: {error or type(error).__name__}; on this machine "
        f"flywheel up {project.directory} starts it"
    )
