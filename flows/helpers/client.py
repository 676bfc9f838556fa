"""Prefect's client for a project's server, independent of the PREFECT_API_URL of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flywheel.project import Project


@contextmanager
def ask_server(
    project: Project, *, seconds: float, logs_in: bool = True
) -> Iterator[SyncPrefectClient]:
    """A client with a timeout in seconds and no retries, since a person is waiting."""
    names = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")
    client = SyncPrefectClient(
        f"{project.prefect.url.rstrip('/')}/api",
        auth_string=next(filter(None, map(os.environ.get, names)), None) if logs_in else None,
        httpx_settings={"timeout": seconds, "trust_env": False},
    )
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), client:
        yield client
