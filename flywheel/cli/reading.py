"""The commands that read what is stored and change nothing: status, trace, report, nights, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.terminal import HERE, AsJson, Folder, console
from flywheel.errors import UserError
from flywheel.shell import quoted

reading = typer.Typer()


@reading.command(rich_help_panel="Loop")
def status(directory: Folder = HERE, as_json: AsJson = False) -> None:
    """Show servers, release, labeling, budgets and the next step."""
    from flywheel import stack
    from flywheel.cli.printing import print_status
    from flywheel.cli.running import planned_lines, shared_servers, silent_servers
    from flywheel.loop import open_loop
    from flywheel.report import status as status_of

    with open_loop(directory, creates=False) as loop:
        names = [server.name for server in stack.running(loop.project)]
        if as_json:
            silent = silent_servers(loop.project)
            console.say_json({"running": names, "not_running": silent, "status": status_of(loop)})
            return
        used = shared_servers(loop.project)
        shared = [f"{name} of project {other.name}" for name, other in used.items()]
        missing = "" if "worker" in names else "; no worker, so no night begins by itself"
        console.say(
            f"servers       {', '.join([*names, *shared]) or 'none of this project runs here'}{missing}"
        )
        silent = silent_servers(loop.project)
        for name in silent:
            console.say(f"              {name} is not running: flywheel up {quoted(directory)}")
        if "prefect" not in silent:
            for line in planned_lines(loop.project):
                console.say(line)
        print_status(status_of(loop), console)


@reading.command(rich_help_panel="Loop")
def trace(
    sample: Annotated[str, typer.Argument(help="a sample's id, a prefix of it, or a request id")],
    directory: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the life of a sample, from prediction to release."""
    from flywheel.cli.printing import print_trace
    from flywheel.loop import open_loop
    from flywheel.report import trace as trace_of

    with open_loop(directory, creates=False) as loop:
        events = trace_of(loop, sample)
    if as_json:
        console.say_json(events)
    else:
        print_trace(events, console)


@reading.command(rich_help_panel="Loop")
def report(
    number: Annotated[
        int | None, typer.Option("--night", help="number of the night", show_default="the last")
    ] = None,
    directory: Folder = HERE,
) -> None:
    """Rewrite the report of a night and print its path."""
    from flywheel.ledger.nights import last_night
    from flywheel.loop import open_loop
    from flywheel.report import write_report

    with open_loop(directory, creates=False) as loop:
        with loop.ledger.read() as connection:
            last = last_night(connection)
        if last is None:
            raise UserError(
                f"no night has run in {loop.project.directory}. Run one with flywheel night."
            )
        console.say(str(write_report(loop, last.number if number is None else number)))


def _check_form(csv: Path | None, *, as_json: bool) -> None:
    if as_json and csv is not None:
        raise UserError("--csv and --json are two forms of the same table. Give one of them.")


@reading.command(rich_help_panel="Loop")
def nights(
    directory: Folder = HERE,
    csv: Annotated[Path | None, typer.Option(help="also write it here", resolve_path=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Show all nights: failures, labels, metric and decisions."""
    from flywheel.cli.printing import night_table
    from flywheel.loop import open_loop
    from flywheel.report import nights_frame

    _check_form(csv, as_json=as_json)
    with open_loop(directory, creates=False) as loop, loop.ledger.read() as connection:
        frame = nights_frame(connection)
        if as_json:
            console.say_json(frame.reset_index().to_dict("records"))
            return
        if frame.empty:
            console.say(f"no night yet; next: flywheel night {quoted(directory)}")
            return
        console.print(night_table(loop.project, frame))
    if csv is not None:
        frame.to_csv(csv)
        console.say(f"wrote {csv}")


@reading.command(rich_help_panel="Loop")
def labels(
    directory: Folder = HERE,
    csv: Annotated[Path | None, typer.Option(help="also write it here", resolve_path=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Show annotators, their quality and cost, and the queue."""
    from flywheel.cli.printing import show_labels
    from flywheel.loop import open_loop
    from flywheel.report.labeling.facts import read_labeling

    _check_form(csv, as_json=as_json)
    with open_loop(directory, creates=False) as loop:
        if as_json:
            console.say_json(read_labeling(loop))
        else:
            show_labels(loop, console, csv)
