"""Runs flows from the command line and shows their progress.

Progress is read from the ledger by a thread, so that the display is the same for a new night and
for one that resumes after a kill.
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
from rich.markup import escape

from flywheel import stack
from flywheel.cli.scheduling import prepare
from flywheel.cli.terminal import Terminal
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import current_night_number
from flywheel.loop.context import LOOP, utc_now
from flywheel.loop.steps import STEPS, step_results
from flywheel.project import Project
from flywheel.records import Release, Report
from flywheel.report import falls_short, summarize


def run_night(project: Project, console: Terminal) -> None:
    """Run the nightly flow in this process, with a line for each step.

    Raises:
        UnavailableError: Prefect's server does not answer; nothing was started.
        BusyError: another process runs the loop now; a scheduled run would wait.
        FlywheelError: the night failed; the next run resumes it.
    """
    prepare(project)
    from flows.nightly import nightly  # Prefect reads the environment at import

    with _watch(project, console):
        state = _run(nightly, project.directory)
    if state.name == "Skipped":
        console.say(f"  {state.message}")


def run_label_hard_cases(project: Project, console: Terminal) -> None:
    """Run the label-hard-cases flow in this process.

    Raises:
        UnavailableError: Prefect's server does not answer; nothing was started.
    """
    prepare(project)
    from flows.label_hard_cases import label_hard_cases  # as above

    state = _run(label_hard_cases, project.directory)
    console.say(f"{state.name}: {state.message}")


def report_release(project: Project, release: Release) -> None:
    """Emit Prefect's event of a release made at the terminal; best effort."""
    os.environ.update(stack.environment(project))
    from flows.helpers.events import release_changed  # as above

    release_changed(project.name, release)


def _run(flow: Callable[..., Any], directory: Path) -> Any:
    try:
        state = flow(directory=directory, return_state=True)
    except httpx.HTTPError as fault:  # it answered when the run began
        raise UnavailableError(
            f"Prefect no longer answers ({fault}). Start it with flywheel up, then run this again to "
            "resume after the last finished step."
        ) from fault
    if state.is_completed():
        return state
    error = state.result(raise_on_failure=False)
    if isinstance(error, FlywheelError):
        raise error
    raise FlywheelError(
        f"the run ended {state.name}: {state.message}; its log is in Prefect's dashboard. "
        "Run it again to resume after the last finished step."
    )


@contextmanager
def _watch(project: Project, console: Terminal) -> Iterator[None]:
    """Print each step of the night as it finishes."""
    ended = threading.Event()
    ledger = Ledger.open(project.ledger_url)
    with hold(ledger, LOOP, utc_now), ledger.read() as connection:
        number = current_night_number(connection)
        earlier = list(step_results(connection, number))
    if earlier:
        console.print(f"  · {', '.join(earlier)} done earlier", highlight=False, soft_wrap=True)
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
    ledger: Ledger, night: int, shown: set[str], ended: threading.Event, console: Terminal
) -> None:
    waiting = next((step.name for step in STEPS if step.name not in shown), "report")
    with console.status(f"night {night}: {waiting} …") as spinner:
        while True:
            last_look = ended.is_set()
            with ledger.read() as connection:
                done = step_results(connection, night)
                report = report_of_night(connection, night)
            for name in [name for name in done if name not in shown]:
                shown.add(name)
                console.print(_step_line(name, *done[name], report), soft_wrap=True)
            waiting = next((step.name for step in STEPS if step.name not in shown), "report")
            spinner.update(f"night {night}: {waiting} …")
            if last_look:
                return
            ended.wait(0.3)


def _step_line(name: str, result: Any, seconds: float, report: Report | None) -> str:
    mark = "[yellow]![/]" if falls_short(result) else "[green]✓[/]"
    said = escape(summarize(name, result, report))
    return f"  {mark} {name:<9}{said}  [dim]{seconds:.1f} s[/]"


_HERE = {"localhost", "127.0.0.1", "::1"}
_WAIT_SECONDS = 1.0


def shared_servers(project: Project) -> dict[str, Project]:
    """Return server -> the other project that owns it, of those that this one uses and that run."""
    return {
        name: other
        for name, other in stack.owners(project).items()
        if name in {server.name for server in stack.running(other)}
    }


def silent_servers(project: Project) -> list[str]:
    """Return the names of the local servers that do not accept connections."""
    urls = {
        "prefect": project.prefect.url,
        "label-studio": project.labeling.url,
    }
    if not project.is_external:
        urls["model-server"] = project.server_url
    return [name for name, url in urls.items() if _is_here(url) and not _is_heard(url)]


def planned_lines(project: Project) -> list[str]:
    """Return the scheduled runs and recent failures in Prefect, or why they are unknown."""
    from flows.registration.server import planned

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
