"""Runs flows from the command line and shows how they get on.

The ledger is the truth of how far a night is; a thread reads it, so that the display is the
same whether the night is new or goes on after a kill.

Before Prefect is imported: this process is pointed at a project's servers.

It imports little, so that commands that only register or remove something start at once.

Which of the servers that a project has on this machine can be reached.

Asked for people at a terminal: whether a server works is for itself to say, and what runs under
whose name is the stack's to know.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.markup import escape

from flywheel import stack
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import current_night_number
from flywheel.loop.context import LOOP, utc_now
from flywheel.loop.steps import STEPS, step_results
from flywheel.project import Project
from flywheel.records import Release
from flywheel.report import falls_short, summarize


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


def run_night(project: Project, console: Console) -> None:
    """Run the nightly flow in this process, with a line for each step.

    Raises:
        UnavailableError: Prefect's server does not answer; nothing was begun.
        BusyError: another process runs the loop now; a run of the schedule would wait.
        FlywheelError: the night ended in a fault; run again, it goes on.
    """
    prepare(project)
    from flows.nightly import nightly  # Prefect reads the environment at import

    with _watch(project, console):
        state = _run(nightly, project.directory)
    if state.name == "Skipped":
        console.print(f"  {escape(str(state.message))}", highlight=False)


def run_label_hard_cases(project: Project, console: Console) -> None:
    """Run the label-hard-cases flow in this process.

    Raises:
        UnavailableError: Prefect's server does not answer; nothing was begun.
    """
    prepare(project)
    from flows.label_hard_cases import label_hard_cases  # as above

    state = _run(label_hard_cases, project.directory)
    console.print(f"{state.name}: {state.message}", highlight=False)


def tell_release(project: Project, release: Release) -> None:
    """Tell Prefect of a release that no run has made; one that does not answer misses a hint."""
    os.environ.update(stack.environment(project))
    from flows.helpers.events import release_changed  # as above

    release_changed(project.name, release)


def _run(flow: Callable[..., Any], directory: Path) -> Any:
    state = flow(directory=directory, return_state=True)
    if state.is_completed():
        return state
    error = state.result(raise_on_failure=False)
    if isinstance(error, FlywheelError):
        raise error
    raise FlywheelError(
        f"the run ended {state.name}: {state.message}; its log is in Prefect's dashboard. "
        "Run it again: it goes on after the last finished step"
    )


@contextmanager
def _watch(project: Project, console: Console) -> Iterator[None]:
    """Print each step of the night as it finishes."""
    ended = threading.Event()
    ledger = Ledger.open(project.ledger_url)
    with hold(ledger, LOOP, utc_now), ledger.read() as connection:
        number = current_night_number(connection)
        earlier = list(step_results(connection, number))
    if earlier:
        console.print(f"  · {', '.join(earlier)} done earlier", highlight=False)
    thread = threading.Thread(
        target=_show_steps,
        args=(ledger, number, {*earlier}, ended, console),
        name="watch",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        ledger.close()


def _show_steps(
    ledger: Ledger, night: int, shown: set[str], ended: threading.Event, console: Console
) -> None:
    waiting = next((step.name for step in STEPS if step.name not in shown), "report")
    with console.status(f"night {night}: {waiting} …") as spinner:
        while True:
            last_look = ended.is_set()
            with ledger.read() as connection:
                done = step_results(connection, night)
            for name in [name for name in done if name not in shown]:
                shown.add(name)
                console.print(_step_line(name, *done[name]))
            waiting = next((step.name for step in STEPS if step.name not in shown), "report")
            spinner.update(f"night {night}: {waiting} …")
            if last_look:
                return
            ended.wait(0.3)


def _step_line(name: str, result: Any, seconds: float) -> str:
    mark = "[yellow]![/]" if falls_short(result) else "[green]✓[/]"
    return f"  {mark} {name:<9}{escape(summarize(name, result))}  [dim]{seconds:.1f} s[/]"


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
    from flows.registration.planned import planned

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
