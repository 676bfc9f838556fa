"""Registers a project's deployments with Prefect's server and runs the workers that serve them.

What is registered stands in deployments/; this says what became of it. Doing it again changes
nothing but the settings that changed. Each project has a work pool of its own, so that its runs
get its worker's environment and secrets, unless [workers] names one of the team.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flywheel import stack
from flywheel.cli.running import prepare
from flywheel.project import Project

if TYPE_CHECKING:
    from flows.registration.registry import Registered

Say = Callable[[str], None]

_WORKERS = ("worker", "gpu-worker")


def register(project: Project, *, progress: Say, has_moved: bool = False) -> None:
    """Register all flows with their schedule and triggers, and start the workers for them.

    Args:
        project: whose flows.
        progress: called with each line for people.
        has_moved: it takes over what is registered for a folder where it no longer is.

    Raises:
        SettingsError: a setting cannot be, a work pool is missing, or another folder has this
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
    _tell(project, done, progress)
    if not stack.is_loopback(project.prefect.url) and registry.is_open(project):
        progress(
            f"warning          whoever reaches {project.prefect.url} can start runs there: it asks for "
            "no password. Start it with PREFECT_SERVER_API_AUTH_STRING=user:password, and set "
            "PREFECT_API_AUTH_STRING to the same here and for the workers"
        )


def unregister(project: Project, *, progress: Say) -> None:
    """Stop the project's workers and remove what is registered for it; other projects stay.

    A night that a worker is running ends with it; flywheel night goes on where it was.

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
    """Start the workers of a project that is scheduled; False for one that is not.

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
    """Stop all that runs for a project; its workers first, whose flow runs end with them."""
    return sorted(_stop(project, _WORKERS, progress) + stack.down(project, progress=progress))


def _start(project: Project, progress: Say) -> None:
    from flows.registration.dead_runs import close_dead_runs

    if workers := stack.own_workers(project):
        close_dead_runs(project, progress)  # else they hold the places of their work pool
        stack.up(project, list(workers), progress=progress)


def _stop(project: Project, workers: Sequence[str], progress: Say) -> list[str]:
    stopped = [
        name for worker in workers for name in stack.down(project, only=worker, progress=progress)
    ]
    if stopped:
        from flows.registration.dead_runs import close_dead_runs  # only then: it takes a second

        close_dead_runs(project, progress)
    return stopped


def _tell(project: Project, done: Registered, progress: Say) -> None:
    for name in done.pools:
        progress(f"work pool {name}: created")
    starts = {
        "nightly": f"at {project.schedule.cron} {project.schedule.timezone}",
        "label-hard-cases": f"when {project.collect.hard_samples} hard samples are waiting",
        "ingest-labels": "when Label Studio tells of annotations",
        "retrain": f"when {project.train.enough_labels} labels wait for a training",
        "release": "when a person answers, or at the deadline of an approval",
        "gpu-step": "when a night needs the GPU",
    }
    for name, change in sorted(done.deployments.items()):
        flow = name.partition("/")[0]
        progress(f"{name:<32} {change:<9} {starts.get(flow, 'by hand')}")
    changes = list(done.automations.values())
    counts = ", ".join(f"{changes.count(change)} {change}" for change in sorted(set(changes)))
    progress(f"automations      {counts}")
    if not done.notifies:
        progress(
            "notifications    nobody is told of failed, late or stuck runs; set FLYWHEEL_NOTIFY_URL "
            "to a webhook address and run flywheel schedule again"
        )
    if stack.outdated(project):
        progress(
            "model server     runs with earlier settings: flywheel up starts it anew with these"
        )
    url = project.prefect_page
    pools = dict.fromkeys([stack.run_pool(project), stack.gpu_pool(project)])
    progress(f"work pools       {', '.join(pool for pool in pools if pool)}")
    progress(f"see              {url}/deployments")
    progress(f"                 {url}/automations")
    progress(f"undo             flywheel unschedule {project.directory}")
