"""Points a process at a project's servers: before Prefect is imported, which reads its settings once."""

from __future__ import annotations

import logging
import os

import httpx

from flywheel import stack
from flywheel.errors import RefusedError, UnavailableError
from flywheel.project import Project
from flywheel.web import is_loopback, through


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
            f"{project.state}/secrets.json. Set that of the server that runs, or let flywheel down "
            "and flywheel up start this project's own."
        )
