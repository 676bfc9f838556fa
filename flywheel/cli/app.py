"""The flywheel command: its entry point, and the commands of every day.

Commands import what they need when they run, so that `--help` is fast. An error that the user can
fix ends in one line on stderr and status 2; other errors of ours end in status 1.
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
from rich.markup import escape
from typer.core import TyperGroup

# Both are empty. Loaded before a task, they are ours even if the project has folders of these names.
import deployments  # noqa: F401
import flows  # noqa: F401
from flywheel.cli.doors import doors
from flywheel.cli.judging import judging
from flywheel.cli.label_files import label_files
from flywheel.cli.reading import reading
from flywheel.cli.simulating import simulating
from flywheel.cli.terminal import HERE, Folder, complain, console, prepare_streams
from flywheel.cli.upkeep import upkeep
from flywheel.errors import FlywheelError, UserError
from flywheel.private import PRIVATE_MASK
from flywheel.shell import quoted
from flywheel.web import spare_loopback


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, typer.Abort) as error:  # typer prints no more than that it aborted
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise UserError(
                f"the input or a file ended too early: {str(error) or 'no answer'}. Answer at a terminal, "
                "or delete the folders __pycache__ if a file there was cut"
            ) from error


app = typer.Typer(
    cls=_Commands,
    help="A model in production that gets better every night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(reading)
app.add_typer(judging)
app.add_typer(label_files)
app.add_typer(doors)
app.add_typer(simulating)
app.add_typer(upkeep)

_STOPPED = b"\nflywheel: stopped. Run the same command again to resume.\n"


def main() -> None:
    """Run the command line; the entry point of the console script."""
    prepare_streams()
    for line in spare_loopback():
        complain(line)
    try:
        if sys.argv[1:2] != ["init"]:  # the files of a new project are its author's to share
            os.umask(PRIVATE_MASK)
        with _stopped_at_once():
            _check_folder()
            app()
    except KeyboardInterrupt:
        sys.exit(130)
    except FlywheelError as error:
        for line in str(error).splitlines():
            complain(line)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except OSError as error:  # a full disk, a folder without rights
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}. Free disk space or fix the permissions.")
        sys.exit(1)


def _check_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the current folder has been deleted. Change to another one") from error


@contextmanager
def _stopped_at_once() -> Iterator[None]:
    """Print a line at Ctrl-C at once, since shutting down may take seconds."""
    earlier = signal.getsignal(signal.SIGINT)
    if earlier is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGINT, earlier)  # print only once
        os.write(2, _STOPPED)  # print() is not reentrant
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


@app.command(rich_help_panel="Project")
def init(
    directory: Annotated[Path, typer.Argument(help="a new folder")],
    data: Annotated[str, typer.Option(help="image, text, table or audio")] = "",
    ask: Annotated[str, typer.Option(help="choice or boxes")] = "",
    trainer: Annotated[
        str, typer.Option(help="torch, sklearn, huggingface, lightning or command")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="your labels, for a project without Python")
    ] = None,
) -> None:
    """Create a project that runs as it is: flywheel.toml and a task, or your labels alone.

    At a terminal and without options it asks; elsewhere it takes what the options leave open.
    """
    from flywheel.cli.starter import Kind, ask_kind, find_kind, write_plain, write_starter
    from flywheel.project import load_project
    from flywheel.ready import how_data_are_read

    if labels is not None and (data or ask or trainer):
        raise UserError(
            f"--labels {labels} goes without --data, --ask and --trainer. Change what is asked in "
            "section [task] of the file that it writes"
        )
    chosen: Kind | Path
    if labels is not None:
        chosen = labels
    elif not (data or ask or trainer) and sys.stdin.isatty() and sys.stdout.isatty():
        chosen = ask_kind(directory)
    else:
        chosen = find_kind(data, ask, trainer)
    if isinstance(chosen, Path):
        written = write_plain(directory, chosen)
    else:
        written = write_starter(directory, chosen)
    for path in written:
        console.say(f"wrote {path}")
    if isinstance(chosen, Path):
        try:
            for line in how_data_are_read(load_project(directory)):
                console.say(line)
        except UserError as error:
            console.say(f"! {error}")
    console.say(f"next: flywheel check {quoted(directory)}")


@app.command(rich_help_panel="Project")
def check(directory: Folder = HERE) -> None:
    """Check the task against its contract and print every violation."""
    import numpy as np

    from flywheel.checks import Source, check_metric, check_task
    from flywheel.dataset import changed_start_data, check_start_data
    from flywheel.loop import open_loop
    from flywheel.loop.imports import adoption_lines
    from flywheel.loop.labels import check_labels
    from flywheel.model import cpu_threads
    from flywheel.project import load_project
    from flywheel.ready import how_data_are_read, where_samples_stand
    from flywheel.task import load_task
    from flywheel.upkeep.servers import model

    project = load_project(directory)
    for line in how_data_are_read(project):
        console.say(line)
    task = load_task(project.project.task, project.directory)
    with cpu_threads(project.train.cpu_threads):
        source = Source(project.project.task, project.directory)
        broken = check_task(task, np.random.default_rng(project.project.seed), source)
    for law in broken:
        console.print(f"[red]✗[/] {law.law}: {escape(law.why)}", highlight=False, soft_wrap=True)
    for line in where_samples_stand(project, " ".join(law.why for law in broken)):
        console.say(line)
    if broken:
        raise typer.Exit(2)
    check_metric(project, task)
    with open_loop(project.directory, creates=False) as loop:  # a task may have changed the folder
        check_labels(loop)
        examples = list(loop.task.start_data()) if loop.task.start_data else []
        check_start_data(examples, loop.task, loop.project.dataset)
        if line := changed_start_data(loop.ledger, examples):
            console.say(f"! {line}")
        for line in adoption_lines(loop):
            console.say(f"! {line}")
    for finding in model(project):
        if finding.status != "ok":
            console.say(f"! released model {finding.line}")
    console.print(f"[green]✓[/] {project.name}: the task keeps every law", highlight=False)
    console.say(f"next: flywheel up {quoted(directory)}")


@app.command(rich_help_panel="Project")
def up(directory: Folder = HERE) -> None:
    """Start Prefect, Label Studio and the model server.

    If the project is scheduled, its worker is started too.
    """
    from flywheel import stack
    from flywheel.cli.scheduling import resume
    from flywheel.project import load_project

    project = load_project(directory)
    stack.up(project, progress=console.say)
    studio = project.labeling.url
    console.say(f"Prefect        {project.prefect.url}  {stack.sign_in(project, 'prefect')}")
    console.say(f"Label Studio   {studio}  {stack.sign_in(project, 'label-studio')}")
    takes = "  takes the predictions of your own server" if project.is_external else ""
    console.say(f"model server   {project.server_url}{takes}")
    if not resume(project, progress=console.say):
        console.say(f"next: flywheel night {quoted(directory)} runs the loop once")
        console.say(f"      flywheel schedule {quoted(directory)} runs it every night")


@app.command(rich_help_panel="Project")
def down(directory: Folder = HERE) -> None:
    """Stop what up and schedule started for this project."""
    from flywheel.cli.running import shared_servers
    from flywheel.cli.scheduling import stop
    from flywheel.project import load_project

    project = load_project(directory)
    stopped = stop(project, progress=console.say)
    for name, other in shared_servers(project).items():
        console.say(f"{name}: goes on, project {other.name!r} owns it ({other.directory})")
    if not stopped:
        console.say("nothing of this project was running")
    elif {"prefect", "label-studio"} & set(stopped):
        console.say(
            "projects that share these servers wait; flywheel up in any of them starts them"
        )


@app.command(rich_help_panel="Loop")
def night(directory: Folder = HERE) -> None:
    """Run the loop once; an interrupted night resumes."""
    from flywheel.cli.running import run_night
    from flywheel.loop import open_loop
    from flywheel.project import load_project
    from flywheel.report import status as status_of

    project = load_project(directory)
    run_night(project, console)
    with open_loop(project.directory, creates=False) as loop:
        now = status_of(loop)
    done = f"night {now.last_night.number} is done; " if now.last_night else ""
    console.say(f"{done}next: {now.to_do}")


@app.command(rich_help_panel="Loop")
def label(directory: Folder = HERE) -> None:
    """Send hard cases to annotators now, between nights."""
    from flywheel.cli.running import run_label_hard_cases
    from flywheel.project import load_project

    run_label_hard_cases(load_project(directory), console)


@app.command(rich_help_panel="Loop")
def rename_class(
    old: Annotated[str, typer.Argument(help="the class as the stored labels name it")],
    new: Annotated[str, typer.Argument(help="the class as the task names it now")],
    directory: Folder = HERE,
) -> None:
    """Keep the labels of a class that the task has renamed."""
    from flywheel.loop import open_loop
    from flywheel.loop.labels import rename_class as rename

    with open_loop(directory) as loop:
        number = rename(loop, old, new)
    console.say(
        f"{number:,} labels of {old!r} are read as {new!r} from now on; next: flywheel night"
    )


@app.command(rich_help_panel="Loop")
def rollback(
    reason: Annotated[str, typer.Option(help="stored with the release")],
    directory: Folder = HERE,
) -> None:
    """Release the previous model again."""
    from flywheel.cli.running import report_release
    from flywheel.loop import open_loop
    from flywheel.loop.release import roll_back, said_of

    with open_loop(directory, creates=False) as loop:
        released = roll_back(loop, f"roll-back: {reason}")
        report_release(loop.project, released)
        if loop.project.is_external:
            console.say(f"{released.checkpoint_digest[:12]} again: {said_of(loop, released)}")
            return
    console.say(f"release {released.number} serves {released.checkpoint_digest[:12]} again")


@app.command(rich_help_panel="Loop")
def rollout(
    action: Annotated[str, typer.Argument(help="promote or abort")],
    reason: Annotated[str, typer.Option(help="stored with the release")],
    directory: Folder = HERE,
) -> None:
    """Release the candidate on live traffic now, or stop it: the champion answers all."""
    from flywheel.loop import open_loop
    from flywheel.loop.release import end_rollout_now
    from flywheel.loop.rollout import describe_rollout

    if action not in ("promote", "abort"):
        raise UserError(f"{action!r} is no action on a rollout. Write promote or abort.")
    with open_loop(directory, creates=False) as loop:
        ended = end_rollout_now(loop, "promote" if action == "promote" else "abort", reason)
        console.say(describe_rollout(ended, loop.now()))


@app.command(rich_help_panel="Project")
def schedule(
    directory: Folder = HERE,
    moved: Annotated[
        bool, typer.Option("--moved", help="the project has moved to this folder")
    ] = False,
) -> None:
    """Run the loop every night, and when its triggers fire."""
    from flywheel.cli.scheduling import register
    from flywheel.project import load_project

    register(load_project(directory), progress=console.say, has_moved=moved)


@app.command(rich_help_panel="Project")
def unschedule(directory: Folder = HERE) -> None:
    """Undo schedule: remove deployments, triggers and worker."""
    from flywheel.cli.scheduling import unregister
    from flywheel.project import load_project

    unregister(load_project(directory), progress=console.say)


@app.command(rich_help_panel="Project")
def serve(directory: Folder = HERE) -> None:
    """Run the model server in the foreground."""
    from flywheel import stack
    from flywheel.project import load_project
    from flywheel.report.site import site
    from flywheel.serve import Listeners, run

    project = load_project(directory)
    os.environ.update(stack.environment(project))  # before Prefect reads it

    # Prefect takes as long to import as torch does, and callers wait for the server.
    def hard_samples(number: int) -> None:
        from flows.helpers import events

        events.hard_samples_wait(project.name, number)

    def annotations(number: int) -> None:
        from flows.helpers import events

        events.annotations_wait(project.name, number)

    listeners = Listeners(on_hard_samples=hard_samples, on_annotations=annotations)
    run(project, listeners=listeners, site=site)


@app.command(rich_help_panel="Project")
def demo(
    name: Annotated[
        str, typer.Argument(help="digits, details, messages, pose, shapes or tumours")
    ] = "digits",
    nights: Annotated[
        int | None, typer.Option(min=1, help="nights to run", show_default="the demo's own")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="delete earlier nights and start again")] = False,
    stop: Annotated[bool, typer.Option("--down", help="stop the demo's servers")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="where the demo keeps its state", show_default="demo/NAME")
    ] = None,
) -> None:
    """Run a bundled project with simulated annotators."""
    from flywheel.cli.demo import run_demo, stop_demo
    from flywheel.examples.demos import find_demo

    chosen = find_demo(name)
    folder = directory or chosen.directory
    if stop:
        stop_demo(chosen, folder, console)
    else:
        run_demo(chosen, folder, nights or chosen.nights, fresh=fresh, console=console)
