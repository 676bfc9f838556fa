"""The flywheel command: starts flows and servers, and says what they did.

Nothing imports this module. Every command takes the project's directory; what it decides is
decided elsewhere. A fault that the reader can mend ends in one line on stderr and status 2.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

# Both are empty. Loaded before a task, they are ours even if the project has folders of these names.
import deployments  # noqa: F401
import flows  # noqa: F401
from flywheel.cli.judging import judging
from flywheel.cli.operating import operating
from flywheel.cli.upkeep import upkeep
from flywheel.errors import FlywheelError, UserError

app = typer.Typer(
    help="A model in production that gets better every night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(judging)
app.add_typer(operating)
app.add_typer(upkeep)
console = Console()

Directory = Annotated[Path, typer.Argument(help="the folder with flywheel.toml")]
HERE = Path()
_STOPPED = b"\nflywheel: stopped; run the same command again, it goes on where it was\n"


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        with _told_at_once():
            app()
    except KeyboardInterrupt:
        sys.exit(130)
    except FlywheelError as error:
        for line in str(error).splitlines():
            print(f"flywheel: {line}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except OSError as error:  # a full disk, a folder without rights
        where = f"{error.filename}: " if error.filename else ""
        print(f"flywheel: {where}{error.strerror or error}; make room or mend it", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _told_at_once() -> Iterator[None]:
    """Answer Ctrl-C in the instant, before anything that ends has had its time to end."""
    earlier = signal.getsignal(signal.SIGINT)
    if earlier is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGINT, earlier)  # it is said once
        os.write(2, _STOPPED)  # print may be in the middle of a line
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="a new folder")]) -> None:
    """Write a task file and flywheel.toml that run as they are."""
    from flywheel.cli.starter import write_starter

    for path in write_starter(directory):
        console.print(f"wrote {path}", highlight=False)
    console.print(f"next: flywheel check {directory}", highlight=False)


@app.command()
def check(directory: Directory = HERE) -> None:
    """Run the laws of the task's contract and print every failure at once."""
    import numpy as np

    from flywheel.checks import check_metric, check_task
    from flywheel.model import cpu_threads
    from flywheel.project import load_project
    from flywheel.task import load_task

    project = load_project(directory)
    task = load_task(project.project.task, project.directory)
    with cpu_threads(project.train.cpu_threads):
        broken = check_task(task, np.random.default_rng(project.project.seed))
    for law in broken:
        console.print(f"[red]✗[/] {law.law}: {law.why}", highlight=False)
    if broken:
        raise typer.Exit(2)
    check_metric(project, task)
    console.print(f"[green]✓[/] {project.name}: the task keeps every law", highlight=False)
    _say(f"next: flywheel up {directory}")


@app.command()
def up(directory: Directory = HERE) -> None:
    """Start Prefect, Label Studio and the model server, and say where they are.

    A project that is scheduled gets its worker back too.
    """
    from flywheel import stack
    from flywheel.cli.scheduling import resume
    from flywheel.project import load_project

    project = load_project(directory)
    stack.up(project, progress=_say)
    login = stack.login(project)
    _say(f"Prefect        {project.prefect.url}")
    _say(f"Label Studio   {login.url}  as {login.email}, password in {login.password_file}")
    _say(f"model server   {project.server_url}")
    if not resume(project, progress=_say):
        _say(f"next: flywheel night {directory} turns the loop once")
        _say(f"      flywheel schedule {directory} does it every night")


@app.command()
def down(directory: Directory = HERE) -> None:
    """Stop what up and schedule started for this project, and nothing else."""
    from flywheel.cli.scheduling import stop
    from flywheel.project import load_project

    stopped = stop(load_project(directory), progress=_say)
    if not stopped:
        _say("nothing was running")


@app.command()
def night(directory: Directory = HERE) -> None:
    """Turn the loop once; a night that was cut off goes on where it was."""
    from flywheel.cli.running import run_night
    from flywheel.project import load_project

    run_night(load_project(directory), console)


@app.command()
def label(directory: Directory = HERE) -> None:
    """Collect and route hard cases now, without waiting for the night."""
    from flywheel.cli.running import run_label_hard_cases
    from flywheel.project import load_project

    run_label_hard_cases(load_project(directory), console)


@app.command()
def status(directory: Directory = HERE) -> None:
    """Say what runs and serves, what waits for whom, and what to do next."""
    from flywheel import stack
    from flywheel.cli.printing import print_status
    from flywheel.cli.running import planned_lines, silent_servers
    from flywheel.loop import open_loop
    from flywheel.report import status as status_of

    with open_loop(directory) as loop:
        names = [server.name for server in stack.running(loop.project)]
        missing = "" if "worker" in names else "; no worker, so no night begins by itself"
        _say(f"servers       {', '.join(names) or 'none of this project runs here'}{missing}")
        silent = silent_servers(loop.project)
        for name in silent:
            _say(f"              {name} is not running: flywheel up {directory}")
        if "prefect" not in silent:
            for line in planned_lines(loop.project):
                console.print(line, highlight=False, soft_wrap=True, markup=False)
        print_status(status_of(loop), console)


@app.command()
def trace(
    sample: Annotated[str, typer.Argument(help="a sample's id, its beginning, or a request id")],
    directory: Directory = HERE,
) -> None:
    """Tell one sample's whole life, from its prediction to the decision it helped to make."""
    from flywheel.cli.printing import print_trace
    from flywheel.loop import open_loop
    from flywheel.report import trace as trace_of

    with open_loop(directory) as loop:
        print_trace(trace_of(loop, sample), console)


@app.command()
def report(
    number: Annotated[
        int | None, typer.Option("--night", help="its number; default: the last")
    ] = None,
    directory: Directory = HERE,
) -> None:
    """Write the report of a night anew and say where it is."""
    from flywheel.ledger.nights import last_night
    from flywheel.loop import open_loop
    from flywheel.report import write_report

    with open_loop(directory) as loop:
        with loop.ledger.read() as connection:
            last = last_night(connection)
        if last is None:
            raise UserError(
                f"no night has run in {loop.project.directory}; flywheel night runs one"
            )
        _say(str(write_report(loop, last.number if number is None else number)))


@app.command()
def nights(
    directory: Directory = HERE,
    csv: Annotated[Path | None, typer.Option(help="write all columns to this file")] = None,
) -> None:
    """Show the nights so far: failures, labels, the metric and every decision."""
    from flywheel.cli.printing import night_table
    from flywheel.loop import open_loop
    from flywheel.report import nights_frame

    with open_loop(directory) as loop, loop.ledger.read() as connection:
        frame = nights_frame(connection)
        if frame.empty:
            _say(f"no night yet; next: flywheel night {directory}")
            return
        console.print(night_table(loop.project, frame))
    if csv is not None:
        frame.to_csv(csv)
        _say(f"wrote {csv}")


@app.command()
def labels(
    directory: Directory = HERE,
    csv: Annotated[Path | None, typer.Option(help="write the people to this file")] = None,
) -> None:
    """Show who labels, how well and at what cost, what waits, and what to do next."""
    from flywheel.cli.labels import show_labels
    from flywheel.loop import open_loop

    with open_loop(directory) as loop:
        show_labels(loop, console, csv)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="kept with the release")],
    directory: Directory = HERE,
) -> None:
    """Release the previous model again, verified by the digest that serves."""
    from flywheel.cli.running import tell_release
    from flywheel.loop import open_loop
    from flywheel.loop.release import roll_back

    with open_loop(directory) as loop:
        released = roll_back(loop, f"roll-back: {reason}")
        tell_release(loop.project, released)
    _say(f"release {released.number} serves {released.checkpoint_digest[:12]} again")


@app.command()
def schedule(
    directory: Directory = HERE,
    moved: Annotated[
        bool, typer.Option("--moved", help="the project was in another folder")
    ] = False,
) -> None:
    """Register the nightly run and the triggers between nights, and serve them."""
    from flywheel.cli.scheduling import register
    from flywheel.project import load_project

    register(load_project(directory), progress=_say, has_moved=moved)


@app.command()
def unschedule(directory: Directory = HERE) -> None:
    """Take back what schedule did: the deployments, the triggers and the worker of this project."""
    from flywheel.cli.scheduling import unregister
    from flywheel.project import load_project

    unregister(load_project(directory), progress=_say)


@app.command()
def serve(directory: Directory = HERE) -> None:
    """Run the model server in the foreground; up starts it in the background."""
    from flywheel import stack
    from flywheel.project import load_project
    from flywheel.serve import Listeners, run

    project = load_project(directory)
    os.environ.update(stack.environment(project))  # before Prefect reads it
    from flows.helpers.events import annotations_event, hard_samples_event

    listeners = Listeners(
        on_hard_samples=hard_samples_event(project.name),
        on_annotations=annotations_event(project.name),
    )
    run(project, listeners=listeners)


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="digits, or pose")] = "digits",
    nights: Annotated[
        int | None, typer.Option(min=1, help="how many nights to turn; nothing: as the demo says")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="forget earlier nights and begin again")] = False,
    stop: Annotated[bool, typer.Option("--down", help="stop the demo's servers")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="where the demo keeps its state; nothing: demo/NAME")
    ] = None,
) -> None:
    """Turn the whole loop on a bundled project, with real servers and simulated people."""
    from flywheel.cli.demo import run_demo, stop_demo
    from flywheel.examples.demos import find_demo

    chosen = find_demo(name)
    folder = directory or chosen.directory
    if stop:
        stop_demo(chosen, folder, console)
    else:
        run_demo(chosen, folder, nights or chosen.nights, fresh=fresh, console=console)


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
