"""The commands that maintain a project: doctor, backup, restore, clean.

An incomplete back-up and a failed check of the doctor end with status 1, so that a scheduler
notices.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.terminal import HERE, AsJson, Folder, console
from flywheel.shell import quoted

if TYPE_CHECKING:
    from flywheel.upkeep import Cleaned

upkeep = typer.Typer()
_UNITS = ("kB", "MB", "GB", "TB")


@upkeep.command(rich_help_panel="Maintenance")
def doctor(
    directory: Folder = HERE,
    as_json: AsJson = False,
    train: Annotated[
        bool, typer.Option(help="also train twice, to say what twice the steps would bring")
    ] = False,
) -> None:
    """Check servers, tokens, disk, clock, versions and GPU."""
    from flows.registration.health import CHECKS
    from flywheel.upkeep import examine

    marks = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}
    findings = examine(directory, CHECKS, train=train)
    if as_json:
        console.say_json(findings)
    else:
        for finding in findings:
            console.print(f"{marks[finding.status]} {finding.check:<15}", end="")
            console.say(finding.line)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


@upkeep.command(rich_help_panel="Maintenance")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="a new folder")],
    directory: Folder = HERE,
    with_secrets: Annotated[
        bool,
        typer.Option(help="include the local Label Studio and its secrets"),
    ] = False,
) -> None:
    """Copy the ledger, its blobs, settings and task; servers may run."""
    from flywheel.loop.context import utc_now
    from flywheel.project import load_project
    from flywheel.upkeep import back_up

    done = back_up(load_project(directory), target, now=utc_now, with_secrets=with_secrets)
    console.say(
        f"wrote {done.path}: {done.num_files:,} files and {done.num_blobs:,} blobs, {_size(done.size)}"
    )
    for what in done.left_out:
        console.say(f"left out: {what}")
    for digest, why in list(done.missing.items())[:5]:
        console.say(f"missing: blob {digest[:12]}: {why}")
    if done.missing:
        console.say(
            f"{len(done.missing):,} blobs of the ledger are missing in it; run flywheel doctor"
        )
        raise typer.Exit(1)
    console.say(f"next: flywheel restore {quoted(done.path)} DIR restores it, here or elsewhere")


@upkeep.command(rich_help_panel="Maintenance")
def restore(
    source: Annotated[Path, typer.Argument(help="a folder written by backup")],
    directory: Folder = HERE,
    force: Annotated[bool, typer.Option(help="move an existing project aside")] = False,
    keep_settings: Annotated[
        bool, typer.Option(help="keep the existing flywheel.toml and its databases")
    ] = False,
) -> None:
    """Restore a project from a back-up, after verifying every file."""
    from flywheel.loop.context import utc_now
    from flywheel.upkeep import restore as restore_project

    done = restore_project(source, directory, now=utc_now, force=force, keep_settings=keep_settings)
    console.say(
        f"{done.project.name} is restored as of {done.backed_up_at}; {done.num_blobs:,} blobs"
    )
    if done.aside is not None:
        console.say(f"the earlier project is in {done.aside}; remove it when you no longer need it")
    if done.missing:
        console.say(f"{len(done.missing):,} blobs were missing in the back-up")
    console.say(f"next: flywheel doctor {quoted(directory)}, then flywheel up {quoted(directory)}")


@upkeep.command(rich_help_panel="Maintenance")
def clean(
    directory: Folder = HERE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only print what would be deleted")
    ] = False,
) -> None:
    r"""Delete what \[retention] allows and nothing refers to."""
    from flywheel.loop import open_loop
    from flywheel.upkeep import clean as clean_project

    with open_loop(directory, creates=False) as loop:
        done = clean_project(loop, dry_run=dry_run)
        console.print(_cleaned_table(done))
        if not any((loop.project.retention.model_dump()).values()):
            console.say("no more: flywheel.toml sets no [retention] (unused_days, ...)")
    if done.free_bytes:
        console.say(
            f"{_size(done.free_bytes)} inside the ledger are free and will be reused; to return them to "
            "the disk, stop the servers and run VACUUM with sqlite3"
        )


def _cleaned_table(done: Cleaned) -> object:
    from rich.table import Table

    table = Table(
        title="would be deleted" if done.dry_run else "deleted",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_column("size", justify="right")
    table.add_column("why, and what is kept", overflow="fold")
    for swept in done.swept:
        size = "" if swept.size is None else _size(swept.size)
        table.add_row(swept.what, f"{swept.number:,}", size, swept.because)
    return table


def _size(number: int) -> str:
    """Format bytes: 512 B, 1.2 MB."""
    if number < 1000:
        return f"{number} B"
    power = min(len(_UNITS), int(math.log10(number)) // 3)
    return f"{number / 1000**power:.1f} {_UNITS[power - 1]}"
