"""The commands that bring labels in and take a dataset out, as files of other programs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.terminal import HERE, Directory, console
from flywheel.shell import quoted

label_files = typer.Typer()
dataset = typer.Typer(help="Take a dataset version out.", no_args_is_help=True)
label_files.add_typer(dataset, name="dataset", rich_help_panel="Loop")


class _Layout(StrEnum):
    JSONL = "jsonl"
    COCO = "coco"
    YOLO = "yolo"


class _Format(StrEnum):
    COCO = "coco"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    FOLDER = "folder"


@label_files.command(rich_help_panel="Loop")
def import_labels(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="or folder", resolve_path=True)],
    wanted: Annotated[
        _Format | None, typer.Option("--as", help="its format", show_default="found")
    ] = None,
    input_: Annotated[str | None, typer.Option("--input", help="column of the samples")] = None,
    answer: Annotated[str | None, typer.Option(help="column of the answers")] = None,
    group: Annotated[str | None, typer.Option(help="column of what stays together")] = None,
    split: Annotated[str | None, typer.Option(help="column of train, val, test")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="store without a question")] = False,
    directory: Directory = HERE,
) -> None:
    """Bring in labels that you have; shows first what it understood."""
    from flywheel.cli.importing import print_import
    from flywheel.label_files import Columns
    from flywheel.loop import open_loop
    from flywheel.loop.imports import look_at_labels, store_labels

    columns = Columns(input=input_, answer=answer, group=group, split=split)
    with open_loop(directory) as loop:
        understood, standing = look_at_labels(loop, path, wanted.value if wanted else None, columns)
        print_import(understood, standing, console)
        if not standing.new:
            console.say("there is nothing to store")
            return
        if not yes and not sys.stdin.isatty():
            console.say("nothing is stored; give --yes to store it")
            return
        if not yes and not typer.confirm("store it?"):
            console.say("nothing is stored")
            return
        done = store_labels(loop, understood)
    console.say(
        f"stored {len(done.new):,} labels; the next dataset version uses them: flywheel night "
        f"{quoted(directory)}"
    )


@dataset.command()
def export(
    to: Annotated[Path, typer.Option(help="a new folder", resolve_path=True)],
    version: Annotated[
        str, typer.Argument(help="prefix of its id", show_default="the newest")
    ] = "latest",
    layout: Annotated[_Layout, typer.Option("--as", help="what the folder looks like")] = (
        _Layout.JSONL
    ),
    directory: Directory = HERE,
) -> None:
    """Write a dataset version as a folder: samples, labels and splits."""
    from flywheel.dataset import export_version
    from flywheel.ledger.datasets import find_version
    from flywheel.loop import open_loop

    with open_loop(directory, creates=False) as loop:
        with loop.ledger.read() as connection:
            found = find_version(connection, version)
        written = export_version(loop.ledger, loop.blobs, found.id, to, layout.value)
    left_out = f", {written.num_left_out:,} answers that failed left out"
    console.say(
        f"wrote {written.folder}: dataset {found.id[:12]}, {written.num_train:,} rows that train and "
        f"{written.num_test:,} that test{left_out if written.num_left_out else ''}"
    )
