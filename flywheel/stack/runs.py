"""Flow runs that can never end, since the process that ran them is gone.

A worker that is stopped takes its flow runs with it, and Prefect's server goes on showing them as
running; there they hold a place of their work pool for ever. Speaks plain HTTP to the server.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import httpx
import psutil

from flywheel.stack.supervise import Progress

_TIMEOUT_SECONDS = 10.0
_CLOCK_SECONDS = 5.0
"""the times of a process and of a run come from two clocks"""
_UNFINISHED = ("RUNNING", "CANCELLING", "PENDING")


def close_dead_runs(url: str, progress: Progress) -> list[str]:
    """Mark the runs of a local Prefect server as crashed whose process on this machine has ended.

    Runs that have no process yet are left alone, and so are those of other kinds of worker. A server that does
    not answer or refuses is told to `progress`: its runs stay as they are. Returns names of runs.
    """
    closed = []
    try:
        with httpx.Client(
            base_url=f"{url.rstrip('/')}/api",
            auth=prefect_login(),
            trust_env=False,
            timeout=_TIMEOUT_SECONDS,
        ) as client:
            for run in _unfinished(client):
                if _is_dead(run):
                    _crash(client, run)
                    closed.append(str(run["name"]))
    except httpx.HTTPError as error:
        progress(f"prefect: its unfinished flow runs were not looked at ({error})")
    for name in closed:
        progress(f"prefect: flow run {name} is marked as crashed, its process has ended")
    return closed


def prefect_login() -> tuple[str, str] | None:
    """User and password for Prefect's server, from the environment as Prefect reads them."""
    names = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")
    user, _, password = next(filter(None, map(os.environ.get, names)), "").partition(":")
    return (user, password) if user else None


def _unfinished(client: httpx.Client) -> list[dict[str, Any]]:
    states = {"type": {"any_": list(_UNFINISHED)}}
    answer = client.post("/flow_runs/filter", json={"flow_runs": {"state": states}})
    answer.raise_for_status()
    runs: list[dict[str, Any]] = answer.json()
    return runs


def _crash(client: httpx.Client, run: dict[str, Any]) -> None:
    message = "The worker was stopped, and this run's process with it."
    state = {"type": "CRASHED", "name": "Crashed", "message": message}
    path = f"/flow_runs/{run['id']}/set_state"
    client.post(path, json={"state": state, "force": True}).raise_for_status()


def _is_dead(run: dict[str, Any]) -> bool:
    """A process worker writes the number of the run's process; other workers write other things."""
    pid = str(run.get("infrastructure_pid") or "")
    if not pid.isdecimal():
        return False
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        # A process that is younger than the run's start has got the number of an older one.
        started = run.get("start_time")
        born = process.create_time() - _CLOCK_SECONDS
        return bool(started) and born > datetime.fromisoformat(str(started)).timestamp()
    except psutil.NoSuchProcess:
        return True
