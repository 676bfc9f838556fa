"""The commands that bring labels in and take a dataset out, as files of other programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.annotate.imports import Brought, Understood, count_answers
from flywheel.cli.terminal import HERE, Directory, console, short, shown_payload
from flywheel.records import Split, canonical
from flywheel.shell import quoted

if TYPE_CHECKING:
    from flywheel.loop.imports import Standing

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
    from flywheel.label_files import Columns
    from flywheel.loop import open_loop
    from flywheel.loop.imports import look_at_labels, store_labels

    columns = Columns(input=input_, answer=answer, group=group, split=split)
    with open_loop(directory) as loop:
        understood, standing = look_at_labels(loop, path, wanted.value if wanted else None, columns)
        _print_import(understood, standing)
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


_SHOWN = 2
_MOST_ANSWERS = 10
_MOST_REASONS = 8


def _print_import(understood: Understood, standing: Standing) -> None:
    """Print what a file holds, what is new of it, and its first rows."""
    file = understood.file
    console.say(f"{file.path}: read as {file.format}")
    for note in understood.notes:
        console.say(f"  {note}")
    for row in understood.rows[:_SHOWN]:
        console.say(f"  {_example(row)}")
    for name, line in _lines(understood, standing):
        console.say(f"{name:<11} {line}")


def _lines(understood: Understood, standing: Standing) -> Iterator[tuple[str, str]]:
    new, splits = standing.new, Counter(row.split for row in standing.new)
    held = f"{splits[Split.TEST]:,} held out with the start data"
    changed = f"; {standing.num_changed:,} had another answer" if standing.num_changed else ""
    yield "new", f"{len(new):,} samples: {splits[Split.TRAIN]:,} train, {held}{changed}"
    if standing.num_known:
        yield "known", f"{standing.num_known:,} were imported before"
    if understood.num_twice:
        yield "twice", f"{understood.num_twice:,} rows are of samples that the file has before"
    if new:
        yield "answers", _answers(new)
        yield "groups", _groups(new)
        yield "stored as", "labels of the source imported, reliability 1"
    yield from _left_out(understood.left_out, standing.left_out)


def _answers(rows: Sequence[Brought]) -> str:

    counts = count_answers(rows)
    shown = [f"{short(name)} {number:,}" for name, number in counts.most_common(_MOST_ANSWERS)]
    more = f", and {len(counts) - _MOST_ANSWERS:,} more" if len(counts) > _MOST_ANSWERS else ""
    return ", ".join(shown) + more


def _groups(rows: Sequence[Brought]) -> str:
    sides: dict[str, set[Split]] = {}
    for row in rows:
        sides.setdefault(row.group, set()).add(row.split)
    both = sum(len(one) > 1 for one in sides.values())
    said = f"; {both:,} train and test, of which nothing trains" if both else ""
    return f"{len(sides):,}{said}"


def _left_out(*parts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    reasons = [(reason, places) for part in parts for reason, places in part.items()]
    reasons.sort(key=lambda item: -len(item[1]))
    for reason, places in reasons[:_MOST_REASONS]:
        yield "left out", f"{len(places):,}: {reason}, as {places[0]}"
    if len(reasons) > _MOST_REASONS:
        rest = sum(len(places) for _, places in reasons[_MOST_REASONS:])
        yield "left out", f"{rest:,} for other reasons"


def _example(row: Brought) -> str:
    shown = shown_payload(row.media_type, row.beginning, row.size)
    group = "" if row.group == row.sample_id else f", group {short(row.group)}"
    return f"{row.place}: {shown} -> {short(canonical(row.answer))} ({row.split.value}{group})"
