"""The commands that look after a project: is it well, keep a copy, forget what nobody needs.

What they print is found out elsewhere. A back-up that is not whole and a doctor who found
something to mend end with status 1, so that a schedule notices.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flywheel.upkeep import Cleaned

upkeep = typer.Typer()
console = Console()
_UNITS = ("kB", "MB", "GB", "TB")

Directory = Annotated[Path, typer.Argument(help="the folder with flywheel.toml")]
HERE = Path()


@upkeep.command()
def doctor(
    directory: Directory = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
) -> None:
    """Check servers, tokens, disk, clock, versions and GPU, and say how to mend what is wrong."""
    from flows.registration.doctor import CHECKS
    from flywheel.upkeep import examine

    marks = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}
    findings = examine(directory, CHECKS)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings], indent=1))
    else:
        for one in findings:
            console.print(f"{marks[one.status]} {one.check:<15}", end="")
            console.print(one.line, highlight=False, soft_wrap=True, markup=False)
    if any(one.status == "fail" for one in findings):
        raise typer.Exit(1)


@upkeep.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="a new one")],
    directory: Directory = HERE,
    with_secrets: Annotated[
        bool,
        typer.Option(help="also the local Label Studio, and the secrets that it was made with"),
    ] = False,
) -> None:
    """Copy the ledger, every blob that it names, settings and task; servers may run."""
    from flywheel.loop.context import utc_now
    from flywheel.project import load_project
    from flywheel.upkeep import back_up

    done = back_up(load_project(directory), target, now=utc_now, with_secrets=with_secrets)
    _say(
        f"wrote {done.path}: {done.num_files:,} files and {done.num_blobs:,} blobs, {_size(done.size)}"
    )
    for what in done.left_out:
        _say(f"left out: {what}")
    for digest, why in list(done.missing.items())[:5]:
        _say(f"missing: blob {digest[:12]}: {why}")
    if done.missing:
        _say(f"{len(done.missing):,} blobs that the ledger names are not in it; flywheel doctor")
        raise typer.Exit(1)
    _say(f"next: flywheel restore {done.path} DIR brings it back, here or elsewhere")


@upkeep.command()
def restore(
    source: Annotated[Path, typer.Argument(help="what backup wrote")],
    directory: Directory = HERE,
    force: Annotated[bool, typer.Option(help="move what is there aside")] = False,
    keep_settings: Annotated[
        bool, typer.Option(help="leave the flywheel.toml that is there, with its databases")
    ] = False,
) -> None:
    """Bring a project back from a back-up, after every byte of it was verified."""
    from flywheel.loop.context import utc_now
    from flywheel.upkeep import restore as bring_back

    done = bring_back(source, directory, now=utc_now, force=force, keep_settings=keep_settings)
    _say(f"{done.project.name} is as it was at {done.backed_up_at}; {done.num_blobs:,} blobs")
    if done.aside is not None:
        _say(f"what was there is in {done.aside}; remove it once all is well")
    if done.missing:
        _say(f"{len(done.missing):,} blobs were missing when it was backed up")
    _say(f"next: flywheel doctor {directory}, then flywheel up {directory}")


@upkeep.command()
def clean(
    directory: Directory = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    r"""Forget what \[retention] allows and nothing refers to; say what went and what stays."""
    from flywheel.loop import open_loop
    from flywheel.upkeep import clean as forget

    with open_loop(directory) as loop:
        done = forget(loop, dry_run=dry_run)
        console.print(_cleaned_table(done))
        if not any((loop.project.retention.model_dump()).values()):
            _say("nothing else: [retention] in flywheel.toml sets nothing (unused_days, ...)")
    if done.free_bytes:
        _say(
            f"{_size(done.free_bytes)} inside the ledger are free and are used again; to give them "
            "back to the disk, stop the servers and let sqlite3 VACUUM the ledger"
        )


def _cleaned_table(done: Cleaned) -> object:
    from rich.table import Table

    table = Table(
        title="would go" if done.dry_run else "went", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_column("size", justify="right")
    table.add_column("why, and what stays", overflow="fold")
    for one in done.swept:
        size = "" if one.size is None else _size(one.size)
        table.add_row(one.what, f"{one.number:,}", size, one.because)
    return table


def _size(number: int) -> str:
    """Bytes as people write them."""
    if number < 1000:
        return f"{number} B"
    power = min(len(_UNITS), int(math.log10(number)) // 3)
    return f"{number / 1000**power:.1f} {_UNITS[power - 1]}"


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
