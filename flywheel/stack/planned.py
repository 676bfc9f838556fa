"""What Prefect's server has planned for a project, and what went wrong with its runs.

Speaks plain HTTP and waits only for moments: it answers people at a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from flywheel.errors import UnavailableError
from flywheel.project import FILE_NAME, Project
from flywheel.stack.runs import prefect_login

_TIMEOUT_SECONDS = 3.0
_WENT_WRONG = ("FAILED", "CRASHED")
_REFUSED = "Refused"
"""what a person asked for in a form could not be; that person has read why"""
_MOST_RUNS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What the server says of one project."""

    directory: Path | None
    """that the runs look for; None: nothing is registered under the project's name"""
    is_paused: bool
    """of the night's deployment, or of its schedule"""
    next_night: datetime | None
    num_late: int
    """runs whose time has come and that no worker takes up"""
    failed: tuple[str, ...]
    """flows whose last run that ended went wrong: its name, why, and where to look"""

    def lines(self, project: Project) -> Iterator[str]:
        """The same in plain lines, for a terminal."""
        here = project.directory
        if self.directory is None:
            yield f"schedule      none: flywheel schedule {here} turns the loop every night"
        elif self.directory != here:
            yield f"schedule      {_elsewhere(self.directory, here)}"
        elif self.is_paused:
            yield f"schedule      paused: resume it at {project.prefect_page}/deployments"
        elif self.next_night is None:
            yield "schedule      no night is planned; the server plans within a minute"
        else:
            yield f"schedule      next night {self.next_night:%Y-%m-%d %H:%M} UTC"
        if self.num_late:
            yield f"late          {self.num_late} runs wait for a worker: flywheel up {here}"
        for line in self.failed:
            yield f"failed        {line}"


def planned(project: Project) -> Planned:
    """Ask Prefect's server.

    Raises:
        UnavailableError: it does not answer, or refuses.
    """
    url = project.prefect.url.rstrip("/")
    try:
        with httpx.Client(
            base_url=f"{url}/api", auth=prefect_login(), trust_env=False, timeout=_TIMEOUT_SECONDS
        ) as client:
            return _read(client, project)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: another program answers there
        raise UnavailableError(
            f"Prefect at {url} does not say what is planned: {error or type(error).__name__}; "
            f"flywheel doctor {project.directory} says why"
        ) from error


def _read(client: httpx.Client, project: Project) -> Planned:
    tags = {"tags": {"all_": ["flywheel", project.name]}}
    found = _ask(client, "/deployments/filter", deployments=tags)
    nightly = [one for one in found if one["entrypoint"].endswith(".nightly")]
    if not nightly:
        return Planned(directory=None, is_paused=False, next_night=None, num_late=0, failed=())
    ids = {"id": {"any_": [one["id"] for one in found]}}
    schedules = nightly[0]["schedules"]
    late = _ask(client, "/flow_runs/filter", deployments=ids, flow_runs=_named("Late"))
    return Planned(
        directory=Path(nightly[0]["parameters"]["directory"]),
        is_paused=nightly[0]["paused"] or not any(one["active"] for one in schedules),
        next_night=_next_night(client, nightly[0]["id"]),
        num_late=len(late),
        failed=tuple(_failures(client, ids, project.prefect_page)),
    )


def _next_night(client: httpx.Client, deployment: str) -> datetime | None:
    runs = _ask(
        client,
        "/flow_runs/filter",
        deployments={"id": {"any_": [deployment]}},
        flow_runs=_named("Scheduled"),
        sort="EXPECTED_START_TIME_ASC",
        limit=1,
    )
    return datetime.fromisoformat(runs[0]["expected_start_time"]) if runs else None


def _failures(client: httpx.Client, ids: dict[str, Any], page: str) -> Iterator[str]:
    """Of each flow that went wrong when it last ran to an end."""
    ended = {"state": {"type": {"any_": ["COMPLETED", *_WENT_WRONG]}}}
    last: dict[str, dict[str, Any]] = {}
    for run in _ask(
        client,
        "/flow_runs/filter",
        deployments=ids,
        flow_runs=ended,
        sort="END_TIME_DESC",
        limit=_MOST_RUNS,
    ):
        last.setdefault(run["deployment_id"], run)
    for run in last.values():
        if run["state_type"] in _WENT_WRONG and run["state_name"] != _REFUSED:
            why = (run["state"]["message"] or run["state_name"]).splitlines()[0]
            yield f"{run['name']}: {why}; {page}/runs/flow-run/{run['id']}"


def _named(state: str) -> dict[str, Any]:
    return {"state": {"name": {"any_": [state]}}}


def _ask(client: httpx.Client, path: str, **body: Any) -> Sequence[dict[str, Any]]:
    answer = client.post(path, json=body)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


def _elsewhere(registered: Path, here: Path) -> str:
    if (registered / FILE_NAME).exists():
        return f"the name is registered for {registered}; write another [project] name here"
    return (
        f"its runs look for it in {registered}, where no project is on this machine: "
        f"flywheel schedule {here} --moved"
    )
