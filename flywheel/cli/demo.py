"""Runs a demo: real servers, simulated production and annotators, a few nights.

Production and annotators come from `flywheel.examples`; everything else is what a real project
runs. In the middle of a demo the metric may change, and the history is rescored under it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection

from flywheel import stack
from flywheel.cli.printing import night_table, rescored_table
from flywheel.cli.running import run_night
from flywheel.cli.scheduling import prepare, stop
from flywheel.cli.terminal import Terminal
from flywheel.errors import UserError
from flywheel.examples.annotators import Crowd, Person
from flywheel.examples.demos import Demo, Revisit, World
from flywheel.examples.story import STORY_PAGE, publish_story
from flywheel.examples.traffic import Arrival, send
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import labeling_projects
from flywheel.ledger.nights import current_night_number, last_night
from flywheel.ledger.releases import current_release
from flywheel.loop import open_loop
from flywheel.loop.replay import rescore
from flywheel.project import FILE_NAME, Project, load_project, secret
from flywheel.records import content_id
from flywheel.report import address, nights_frame
from flywheel.stack.credentials import ensure_credentials
from flywheel.task import Task, load_task

_SECTION = re.compile(r"^\[metric\]\n.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)


def revisit_metric(project: Project, revisit: Revisit, console: Terminal) -> Project:
    """Write the new [metric] section, rescore the history, print both; return the new settings.

    The same as an editor and `flywheel metric rescore`.
    """
    path = project.directory / FILE_NAME
    section = f"[metric]\n{revisit.section.strip()}\n\n"
    text = _SECTION.sub(lambda _: section, path.read_text(encoding="utf-8"), count=1)
    path.write_text(text, encoding="utf-8")
    changed = load_project(project.directory)
    console.say(f"  {revisit.because}")
    console.say(section.strip())
    with open_loop(project.directory) as loop:
        console.print(rescored_table(list(rescore(loop)), changed.metric.optimize))
    return changed


def run_demo(demo: Demo, directory: Path, nights: int, *, fresh: bool, console: Terminal) -> None:
    """Start the servers and run the nights; a second call runs the next ones."""
    if fresh and directory.exists():
        stop_demo(demo, directory, console)
        shutil.rmtree(directory)
    project = _project(demo, directory)
    console.rule("servers")
    stack.up(project, progress=console.say)
    prepare(project)
    _begin(demo, project, console)
    for _ in range(nights):
        number = _coming(project)
        _turn(demo, project, number, console)
        if demo.revisit is not None and number == demo.revisit.after_night:
            console.rule("the metric changes")
            project = revisit_metric(project, demo.revisit, console)
    console.rule("results")
    with _bar(console) as progress:
        bar = progress.add_task("training on other labels for comparison", total=None)
        publish_story(
            demo,
            project,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    _show_nights(project, console)
    _say_where(project, console)


def stop_demo(demo: Demo, directory: Path, console: Terminal) -> None:
    """Stop the demo's servers; its state is kept."""
    if not (directory / FILE_NAME).exists():
        raise UserError(f"no demo in {directory}. Start one with make {demo.target}.")
    if not stop(load_project(directory), progress=console.say):
        console.print("nothing was running")


def _project(demo: Demo, directory: Path) -> Project:
    settings = directory / FILE_NAME
    if not settings.exists():
        directory.mkdir(parents=True, exist_ok=True)
        settings.write_text((files("flywheel") / demo.settings).read_text(encoding="utf-8"))
    return load_project(directory)


def _begin(demo: Demo, project: Project, console: Terminal) -> None:
    """Finish an interrupted night, and run night 1 if no model is released."""
    with _reading(project) as connection:
        night = last_night(connection)
    if night is not None and night.finished_at is None:
        _finish(project, night.number, console)
    elif night is not None:
        console.print(
            f"continuing after night {night.number}; make {demo.target} FRESH=1 starts again",
            highlight=False,
        )
    if not _serves(project):
        console.rule(f"night {_coming(project)}: the first model, from the start data")
        run_night(project, console)


def _finish(project: Project, number: int, console: Terminal) -> None:
    """Resume an interrupted night; its traffic was sent before."""
    console.rule(f"night {number}")
    console.print(f"  finishing night {number}, which was interrupted", highlight=False)
    run_night(project, console)


def _coming(project: Project) -> int:
    """Return the number of the next night."""
    with _reading(project) as connection:
        return current_night_number(connection)


def _serves(project: Project) -> bool:
    with _reading(project) as connection:
        released = current_release(connection)
    return released is not None


def _turn(demo: Demo, project: Project, number: int, console: Terminal) -> None:
    """Simulate a day and run its night: annotators answer the last batch, production sends samples.

    The last night's batch is left open, so that a user can label some samples.
    """
    world = demo.world(project.project.seed)
    rng = np.random.default_rng([project.project.seed, number, 7])
    console.rule(f"night {number}")
    if number > 2:  # night 1 sends nothing to annotators
        annotators = np.random.default_rng([project.project.seed, number, 8])
        _annotators_work(demo, project, world, number - 2, annotators, console)
    with _bar(console) as progress:
        bar = progress.add_task("production sends samples")
        sent = send(
            world.traffic(number - 2),
            project.server_url,
            secret("FLYWHEEL_SERVER_TOKEN"),
            rng=rng,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
            is_right=world.is_right,
        )
    console.print(
        f"  {sent.num_sent} answered, {sent.num_outcomes + sent.num_corrections} with feedback",
        highlight=False,
    )
    run_night(project, console)


def _annotators_work(
    demo: Demo,
    project: Project,
    world: World,
    number: int,
    rng: np.random.Generator,
    console: Terminal,
) -> None:
    with _reading(project) as connection:
        labeling = labeling_projects(connection)
    if not labeling:
        console.print("  nothing was sent to annotators", highlight=False)
        return
    task = load_task(project.project.task, project.directory)
    arrived = {arrival.sample.id: arrival for arrival in _ever_seen(task, world, number)}
    admin = ensure_credentials(project.state)
    annotators = _annotators(demo, admin.secret_key)
    crowd = Crowd(project.labeling.url, admin.email, admin.password, annotators)
    with _bar(console) as progress:
        bar = progress.add_task("annotators work in Label Studio", total=None)
        worked = crowd.work(
            labeling[-1],
            demo.hand(task, arrived.get),
            rng,
            lambda done: progress.update(bar, completed=done),
        )
    console.print(
        f"  {worked.annotations} annotations, {worked.skipped} skipped, "
        f"{worked.left} left for later",
        highlight=False,
    )


def _ever_seen(task: Task, world: World, nights: int) -> Iterator[Arrival]:
    """Yield all that may be sent to annotators: production, and start data for gold questions."""
    for day in range(nights):
        yield from world.traffic(day)
    for example in task.start_data() if task.start_data else ():
        yield Arrival.of_start(example)


def _annotators(demo: Demo, secret_key: str) -> list[Person]:
    """Return the simulated annotators; their passwords are derived from the stack's secret."""
    return [
        Person(
            email=f"{name}@example.com",
            password=content_id(f"{secret_key}/{name}".encode())[:24],
            error_rate=habits.error_rate,
            seconds_per_answer=habits.seconds_per_answer,
            leave_rate=habits.leave_rate,
        )
        for name, habits in demo.annotators.items()
    ]


def _show_nights(project: Project, console: Terminal) -> None:
    with _reading(project) as connection:
        console.print(night_table(project, nights_frame(connection)))


def _say_where(project: Project, console: Terminal) -> None:
    login = stack.login(project)
    with _reading(project) as connection:
        labeling = labeling_projects(connection)
        night = last_night(connection)
    lines = [
        f"pages         {project.server_page}/pages/",
        f"flow runs     {project.prefect_page}/runs",
        f"  sign in     {stack.sign_in(project, 'prefect').removeprefix('sign in ')}",
        f"labeling      {project.label_studio_page}/projects/{labeling[-1] if labeling else ''}",
        f"  log in as   {login.email}, password in {login.password_file}",
        f"report        {address(project, f'night-{night.number if night else 0:04d}.html')}",
        f"all nights    {address(project, STORY_PAGE)}",
        "stop it       make down",
    ]
    for line in lines:
        console.say(line)


def _bar(console: Terminal) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


@contextmanager
def _reading(project: Project) -> Iterator[Connection]:
    """Open the project's ledger for one read."""
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.read() as connection:
        yield connection
