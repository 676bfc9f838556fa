"""Checks of Prefect's server, and of the schedule on it, for flywheel doctor."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import httpx
from prefect.client.schemas.objects import WorkerStatus

from flows.registration.server import ask_server, planned
from flywheel import stack
from flywheel.errors import UnavailableError
from flywheel.project import Project
from flywheel.shell import quoted
from flywheel.upkeep.finding import Finding, fail, ok, warn
from flywheel.upkeep.servers import another_program, silent

_CHECK_SECONDS = 3.0


def prefect(project: Project) -> Iterator[Finding]:
    """Whether Prefect's server answers and has our version."""
    url = f"{project.prefect.url.rstrip('/')}/api/admin/version"
    try:
        with ask_server(project, seconds=_CHECK_SECONDS) as client:
            there, here = str(client.api_version()), version("prefect")
    except httpx.HTTPError as error:
        raise silent(project, url, error) from error
    except ValueError as error:
        raise another_program(url, error) from error
    if there.split(".")[:2] != here.split(".")[:2]:
        yield warn(
            "Prefect", f"its server is {there} and {here} is installed here: make them equal"
        )
    else:
        yield ok("Prefect", f"{project.prefect.url} answers, version {there}")


def schedule(project: Project) -> Iterator[Finding]:
    """Whether nights are planned, a worker takes them up, and the last ones went well."""
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


def _workers(project: Project) -> Iterator[Finding]:
    for pool in filter(None, {stack.run_pool(project), stack.gpu_pool(project)}):
        try:
            with ask_server(project, seconds=_CHECK_SECONDS) as client:
                found = client.read_workers_for_work_pool(pool)
        except httpx.HTTPError as error:
            url = f"{project.prefect.url.rstrip('/')}/api/work_pools/{pool}/workers/filter"
            raise silent(project, url, error) from error
        alive = [worker.name for worker in found if worker.status is WorkerStatus.ONLINE]
        if alive:
            yield ok("worker", f"{len(alive)} online for the work pool {pool}")
        else:
            yield fail(
                "worker",
                f"no worker takes up the runs of the work pool {pool}: flywheel up {quoted(project.directory)} "
                "starts the project's own; one of your team's is started where it belongs",
            )


CHECKS = (("Prefect", prefect), ("schedule", schedule))
"""(name, check) for flywheel.upkeep.examine"""
