"""The commands between a server of the user's own and the loop: import predictions and feedback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.terminal import HERE, Directory, console, short, shown_payload
from flywheel.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.intake import Brought, Preview, Reading
    from flywheel.loop import Loop

doors = typer.Typer()

_SHOWN, _ASKED, _MOST_REASONS = 2, 20, 8
_EVERY_SECONDS = 10.0


class _Kind(StrEnum):
    PREDICTIONS = "predictions"
    FEEDBACK = "feedback"


class _LogFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


@doors.command(name="import", rich_help_panel="Loop")
def import_log(
    kind: Annotated[_Kind, typer.Argument(help="what the files hold")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="paths or addresses")],
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="may be repeated")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="a column to pass over")] = None,
    wanted: Annotated[
        _LogFormat | None, typer.Option("--as", help="its format", show_default="by its name")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="of times that name none")] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="file of rejected rows", show_default=".flywheel/imports/rejects.jsonl"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what was understood, store nothing")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="read files from their beginning")] = False,
    directory: Directory = HERE,
) -> None:
    """Bring in what your own server has answered, and what became of it."""
    from flywheel.intake import Placing, bring, look_at, open_log
    from flywheel.loop import open_loop

    num_taken = num_rejected = 0
    with open_loop(directory) as loop:
        for address in files:
            log = open_log(address, wanted.value if wanted else None)
            reading = _reading(loop, columns or [], ignore or [], timezone, are_texts=log.are_texts)
            folder = None if "://" in log.address else Path(log.address).parent
            placing = Placing(project=loop.project, folder=folder, reads=loop.task.inputs)
            preview = look_at(log, kind.value, reading, placing)
            for name, line in _preview_lines(loop, preview):
                console.say(f"{name:<11} {line}")
            if dry_run:
                continue
            path = rejects or loop.project.state / "imports" / "rejects.jsonl"
            with _progress(log.address) as progress:
                done = bring(
                    loop.ledger,
                    loop.blobs,
                    log,
                    kind.value,
                    reading,
                    placing,
                    rejects=path,
                    again=again,
                    progress=progress,
                )
            for line in _done_lines(done, log.address):
                console.say(line)
            num_taken += done.num_new + done.num_known + done.num_early
            num_rejected += done.reasons.total()
    if dry_run:
        console.say("nothing is stored; leave out --dry-run to store it")
    elif num_rejected and not num_taken:
        raise typer.Exit(1)


@doors.command(rich_help_panel="Decisions")
def champion(
    model: Annotated[
        Path | None, typer.Argument(help="the folder that training left", resolve_path=True)
    ] = None,
    answers: Annotated[
        str, typer.Option(help="name in the log of a model whose weights are not yours to have")
    ] = "",
    directory: Directory = HERE,
) -> None:
    """Register the model that serves today: the one that candidates must beat."""
    from flywheel.cli.running import report_release
    from flywheel.loop import open_loop
    from flywheel.loop.submit import register_champion

    if (model is None) == (not answers):
        raise UserError("a champion is a folder or --answers NAME. Give one of them")
    with open_loop(directory) as loop:
        released = register_champion(loop, model or answers)
        report_release(loop.project, released)
    console.say(f"release {released.number} is {released.checkpoint_digest[:12]}, the champion")


@doors.command(rich_help_panel="Decisions")
def export_release(
    to: Annotated[str, typer.Argument(metavar="FOLDER", help="or an fsspec address")],
    number: Annotated[
        int | None, typer.Option("--release", help="its number", show_default="the current one")
    ] = None,
    directory: Directory = HERE,
) -> None:
    """Write the artifact of a release, with a manifest of digests, for a server of your own."""
    from flywheel.handover import write_release
    from flywheel.ledger.releases import release_history
    from flywheel.loop import open_loop

    with open_loop(directory, creates=False) as loop:
        with loop.ledger.read() as connection:
            known = {one.number: one for one in release_history(connection)}
        wanted = known.get(max(known, default=0) if number is None else number)
        if wanted is None:
            raise UserError(
                f"{loop.project.name} has no release {number or 1}. See flywheel status for what is "
                "released, and run flywheel night for the first one"
            )
        artifact = loop.blobs.get(wanted.checkpoint_digest)
        console.say(f"wrote {write_release(loop.project, wanted, artifact, to)}")


def _reading(
    loop: Loop, columns: Sequence[str], ignored: Sequence[str], zone: str | None, *, are_texts: bool
) -> Reading:
    from zoneinfo import ZoneInfo

    from flywheel.intake import Reading

    pairs = [one.partition("=") for one in columns]
    for field, _, column in pairs:
        if not field or not column:
            raise UserError(f"--map {field}{column} is no FIELD=COLUMN. Write --map id=request_id")
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise UserError(
                f"--timezone {zone} is not known. Write one such as Europe/Berlin"
            ) from error
    start = loop.task.start_data if are_texts else None
    first = next(iter(start()), None) if start is not None else None
    return Reading(
        columns={column: field for field, _, column in pairs},
        ignored=tuple(ignored),
        zone=zone,
        are_texts=are_texts,
        are_numbers=first is not None and type(first.answer) in (int, float),
        now=loop.now(),
    )


def _preview_lines(loop: Loop, preview: Preview) -> Iterator[tuple[str, str]]:
    """What was understood of the beginning of a file."""
    from flywheel.ledger.releases import release_history

    renamed = [f"{column} is {name}" for column, name in preview.columns if name and name != column]
    same = [name for column, name in preview.columns if name == column]
    ignored = [column for column, name in preview.columns if not name]
    yield "columns", ", ".join([*same, *renamed, *(f"{one} is passed over" for one in ignored)])
    for row in islice(preview.read, _SHOWN):
        yield "row", f"{row.place}: {_example(row.entry)}"
    if preview.first is not None:
        yield "times", f"{preview.first:%Y-%m-%d %H:%M} to {preview.last:%Y-%m-%d %H:%M} UTC"
    if preview.models:
        with loop.ledger.read() as connection:
            known = {one.checkpoint_digest for one in release_history(connection)}
        shown = [f"{short(name)} {number:,}" for name, number in preview.models.most_common(4)]
        strange = "" if known & preview.models.keys() else "; none is a release of this project"
        yield "models", ", ".join(shown) + strange
    if preview.num_without_confidence or preview.num_without_embedding:
        yield (
            "missing",
            (
                f"{preview.num_without_confidence:,} confidences and {preview.num_without_embedding:,} "
                "embeddings, which a night computes"
            ),
        )
    if fault := _answer_fault(loop, preview):
        yield "answers", fault
    for reason, number in Counter(one.reason for one in preview.rejected).most_common(
        _MOST_REASONS
    ):
        yield "rejected", f"{number:,} of the first {preview.num_rows:,} rows: {reason}"


def _example(entry: object) -> str:
    from flywheel.ledger.intake import Arrived
    from flywheel.records import Feedback, canonical

    if isinstance(entry, Arrived):
        sample, prediction = entry.entry.sample, entry.entry.prediction
        shown = shown_payload(sample.media_type, sample.payload, len(sample.payload))
        return f"{prediction.id}: {shown} -> {short(canonical(prediction.answer))}"
    assert isinstance(entry, Feedback)  # noqa: S101  there is no third
    return f"{entry.prediction_id}: {entry.kind} {short(canonical(entry.value))}"


def _answer_fault(loop: Loop, preview: Preview) -> str:
    """Why the answers of the first rows are none of the task; "" when they are."""
    from flywheel.faults import UNREADABLE
    from flywheel.ledger.intake import Arrived

    for row in islice(preview.read, _ASKED):
        if isinstance(row.entry, Arrived):
            sample, answer = row.entry.entry.sample, row.entry.entry.prediction.answer
            labeling, fault = loop.task.labeling, "an annotation of it reads otherwise"
            try:  # the law that flywheel check tests on the model's answers
                again = labeling.answer(labeling.result(answer, sample), sample)
                is_answer = loop.task.agree(again, answer)
            except UNREADABLE as error:
                is_answer, fault = False, str(error)
            if not is_answer:
                return f"row {row.place}: {short(repr(answer))} is no answer of the task: {fault}"
    return ""


def _done_lines(done: Brought, address: str) -> Iterator[str]:
    before = f", {done.num_before:,} were read before" if done.num_before else ""
    known = f", {done.num_known:,} known" if done.num_known else ""
    early = f", {done.num_early:,} wait for their prediction" if done.num_early else ""
    yield f"{address}: {done.num_rows:,} rows, {done.num_new:,} new{known}{early}{before}"
    for reason, number in done.reasons.most_common(_MOST_REASONS):
        yield f"{'rejected':<11} {number:,}: {reason}"
    if rest := done.reasons.total() - sum(n for _, n in done.reasons.most_common(_MOST_REASONS)):
        yield f"{'rejected':<11} {rest:,} for other reasons"
    if done.rejects is not None:
        yield f"{'rejected':<11} rows are in {done.rejects}; when they are corrected: --again"


@contextmanager
def _progress(address: str) -> Iterator[Callable[[Brought], None]]:
    """Show how many rows are done: live at a terminal, else a line from time to time."""
    begun = said = monotonic()
    with console.status(f"{address} …") as spinner:

        def show(done: Brought) -> None:
            nonlocal said
            pace = done.num_rows / max(monotonic() - begun, 1e-9)
            line = f"{address}: {done.num_before + done.num_rows:,} rows, {pace:,.0f} a second"
            spinner.update(line)
            if not console.is_terminal and monotonic() - said > _EVERY_SECONDS:
                said = monotonic()
                console.say(line)

        yield show
