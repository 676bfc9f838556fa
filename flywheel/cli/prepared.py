"""Before Prefect is imported: this process is pointed at a project's servers.

It imports little, so that commands that only register or remove something start at once.
"""

from __future__ import annotations

import os

import httpx

from flywheel import stack
from flywheel.errors import UnavailableError
from flywheel.project import Project


def prepare(project: Project) -> None:
    """Point this process at the project's servers and make sure that Prefect's answers."""
    os.environ.update(stack.environment(project))
    # People at a terminal read our lines; the dashboard keeps Prefect's.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    url = os.environ["PREFECT_API_URL"]
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Prefect at {url} does not answer ({error}); start it with flywheel up, "
            "then run this again: nothing was begun and nothing is lost"
        ) from error
