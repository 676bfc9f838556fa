"""Which of the servers that a project has on this machine can be reached.

Asked for people at a terminal: whether a server works is for itself to say, and what runs under
whose name is the stack's to know.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from flywheel.errors import UnavailableError
from flywheel.project import Project

_HERE = {"localhost", "127.0.0.1", "::1"}
_WAIT_SECONDS = 1.0


def silent_servers(project: Project) -> list[str]:
    """Names of the servers on this machine at whose address nobody listens."""
    urls = {
        "prefect": project.prefect.url,
        "label-studio": project.labeling.url,
        "model-server": project.server_url,
    }
    return [name for name, url in urls.items() if _is_here(url) and not _is_heard(url)]


def planned_lines(project: Project) -> list[str]:
    """What Prefect's server has planned, and what went wrong there; or that it does not say."""
    from flows.planned import planned  # only where Prefect's server answers: it takes a second

    try:
        return list(planned(project).lines(project))
    except UnavailableError as error:
        return [f"schedule      {error}"]


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in _HERE


def _is_heard(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), _WAIT_SECONDS).close()
    except OSError:
        return False
    return True
