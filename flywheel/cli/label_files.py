"""The commands that bring labels in and take a dataset out, as files of other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.terminal import Terminal

label_files = typer.Typer()
dataset = typer.Typer(help="Take a dataset version out.", no_args_is_help=True)
label_files.add_typer(dataset, name="dataset", rich_help_panel="Loop")
console = Terminal()

Directory = Annotated[Path, typer.Option("--directory", "-d", help="the folder with flywheel.toml")]
HERE = Path()


class _Layout(StrEnum):
    JSONL = "jsonl"
    COCO = "coco"
    YOLO = "yolo"


@dataset.command()
def export(
    to: Annotated[Path, typer.Option(help="a new folder")],
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
