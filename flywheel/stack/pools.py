"""Which work pools the runs of a project go to, and which of them have a worker on this machine.

A pool named after the project is its own: it is made, served on this machine and removed again.
Any other pool belongs to the team and is only used.
"""

from __future__ import annotations

from flywheel.project import Project


def run_pool(project: Project) -> str:
    """The work pool of all flows: [workers] pool, else the project's own."""
    return project.workers.pool or _own(project)


def gpu_pool(project: Project) -> str | None:
    """The work pool that trains and scores; None: the run of the night does it itself."""
    return project.workers.gpu_pool


def is_own(project: Project, pool: str) -> bool:
    """Whether a pool is named after the project: flywheel-digits, flywheel-digits-gpu."""
    return pool == _own(project) or pool.startswith(f"{_own(project)}-")


def own_workers(project: Project) -> dict[str, str]:
    """Service name -> work pool of the workers that the project has on this machine."""
    pools = {"worker": run_pool(project)}
    if (gpu := gpu_pool(project)) and gpu != run_pool(project):
        pools["gpu-worker"] = gpu
    return {name: pool for name, pool in pools.items() if is_own(project, pool)}


def _own(project: Project) -> str:
    return f"flywheel-{project.name}"
