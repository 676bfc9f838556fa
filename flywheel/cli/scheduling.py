"""Registers a project's deployments with Prefect's server and runs the workers for them.

Registering is idempotent: a second call updates only what changed. Each project has its own work
pool, so that its runs get its worker's environment and secrets, unless [workers] names a shared
one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import httpx

from flywheel import stack
from flywheel.errors import RefusedError, UnavailableError
from flywheel.project import Project
from flywheel.shell import quoted
from flywheel.web import is_loopback, through

if TYPE_CHECKING:
    from flows.registration.registry import Registered


Say = Callable[[str], None]

_WORKERS = ("worker", "gpu-worker")


def register(project: Project, *, progress: Say, has_moved: bool = False) -> None:
    """Register all flows with their schedule and triggers, and start the workers.

    Args:
        project: the project to schedule.
        progress: called with each line of output.
        has_moved: take over what is registered for the folder where the project was.

    Raises:
        SettingsError: a setting is invalid, a work pool is missing, or another folder uses this
            project's name; nothing was changed.
        UnavailableError: Prefect's server does not answer, or a worker does not start.
        RefusedError: Prefect refuses the deployments.
    """
    prepare(project)
    from flows.registration import registry  # Prefect reads the environment at import

    registry.check_registrable(project, has_moved=has_moved)
    for name in registry.remove(project, but_named=project.name):
        progress(f"{name}: removed, the project has another name now")
    done = registry.register(project)
    workers = stack.own_workers(project)
    _stop(project, [name for name in _WORKERS if name not in workers], progress)
    _start(project, progress)
    _print_registered(project, done, progress)
    if not stack.is_loopback(project.prefect.url) and registry.is_open(project):
        progress(
            f"warning          anyone who reaches {project.prefect.url} can start runs: it has no "
            "password. Start it with PREFECT_SERVER_API_AUTH_STRING=user:password, and set "
            "PREFECT_API_AUTH_STRING to the same here and for the workers"
        )


def unregister(project: Project, *, progress: Say) -> None:
    """Stop the project's workers and remove its deployments and triggers.

    A night that a worker is running is interrupted; flywheel night resumes it.

    Raises:
        UnavailableError: Prefect's server does not answer; the workers are stopped already.
    """
    os.environ.update(stack.environment(project))  # stopping imports Prefect, which reads it once
    stopped = _stop(project, _WORKERS, progress)
    prepare(project)
    from flows.registration.registry import remove  # as above

    removed = remove(project)
    for name in removed:
        progress(f"{name}: removed")
    if not stopped and not removed:
        progress(f"nothing was scheduled for {project.directory}")


def resume(project: Project, *, progress: Say) -> bool:
    """Start the workers of a scheduled project; return False if it is not scheduled.

    Raises:
        UnavailableError: Prefect's server does not answer, or a worker does not start.
    """
    prepare(project)
    from flows.registration.registry import registered  # as above

    if not registered(project):
        return False
    _start(project, progress)
    return True


def stop(project: Project, *, progress: Say) -> list[str]:
    """Stop workers and servers of a project and return their names, workers first."""
    return sorted(_stop(project, _WORKERS, progress) + stack.down(project, progress=progress))


def _start(project: Project, progress: Say) -> None:
    from flows.registration.server import close_dead_runs

    if workers := stack.own_workers(project):
        close_dead_runs(project, progress)  # a dead run would hold its slot of the work pool
        stack.up(project, list(workers), progress=progress)


def _stop(project: Project, workers: Sequence[str], progress: Say) -> list[str]:
    stopped = [
        name for worker in workers for name in stack.down(project, only=worker, progress=progress)
    ]
    if stopped:
        from flows.registration.server import (
            close_dead_runs,
        )  # imports Prefect, which takes a second

        close_dead_runs(project, progress)
    return stopped


def _print_registered(project: Project, done: Registered, progress: Say) -> None:
    for name in done.pools:
        progress(f"work pool {name}: created")
    starts = {
        "nightly": f"at {project.schedule.cron} {project.schedule.timezone}",
        "label-hard-cases": f"when {project.collect.hard_samples} hard samples are waiting",
        "ingest-labels": "when Label Studio reports annotations",
        "retrain": f"when {project.train.enough_labels} new labels can train",
        "release": "when an approval is answered, or at its deadline",
        "gpu-step": "when a night needs the GPU",
    }
    width = max(map(len, done.deployments), default=0)
    for name, change in sorted(done.deployments.items()):
        flow = name.partition("/")[0]
        progress(f"{name:<{width}} {change:<9} {starts.get(flow, 'manually')}")
    changes = list(done.automations.values())
    counts = ", ".join(f"{changes.count(change)} {change}" for change in sorted(set(changes)))
    progress(f"automations      {counts}")
    if not done.notifies:
        progress(
            "notifications    off for failed, late or stuck runs; set FLYWHEEL_NOTIFY_URL to a "
            "webhook address and run flywheel schedule again"
        )
    if stack.outdated(project):
        progress("model server     runs with earlier settings: flywheel up restarts it with these")
    url = project.prefect_page
    pools = dict.fromkeys([stack.run_pool(project), stack.gpu_pool(project)])
    progress(f"work pools       {', '.join(pool for pool in pools if pool)}")
    progress(f"dashboard        {url}/deployments")
    progress(f"                 {url}/automations")
    progress(f"undo             flywheel unschedule {quoted(project.directory)}")


def prepare(project: Project) -> None:
    """Point this process at the project's servers and make sure that Prefect's answers.

    Raises:
        UnavailableError: it does not.
        RefusedError: it wants another password.
    """
    os.environ.update(stack.environment(project))
    # The terminal shows our lines; Prefect's log stays in its dashboard.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    logging.raiseExceptions = False  # of a server that has gone, the command says a line
    url = os.environ["PREFECT_API_URL"]
    try:
        health = httpx.get(f"{url}/health", timeout=10, trust_env=not is_loopback(url))
        health.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(
            f"Prefect at {url} does not answer ({error}){through(url)}. Start it with flywheel up, "
            "then run this command again; nothing was started and nothing is lost."
        ) from error
    name, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    asked = f"{url}/admin/version"
    said = httpx.get(asked, auth=(name, password), timeout=10, trust_env=not is_loopback(url))
    if said.status_code == httpx.codes.UNAUTHORIZED:
        raise RefusedError(
            f"Prefect at {url} refuses the password of PREFECT_API_AUTH_STRING, or of "
            f"{project.state}/secrets.json. Run flywheel up, which shares the server of another "
            "project of yours, or set the password of the server that runs."
        )
