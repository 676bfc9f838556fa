"""Labels that a user has already, in a file: all of it is read, understood and held against the task.

What becomes of them in the ledger is in flywheel/loop/imports.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flywheel.annotate.fits import answer_fault, drawing_fault, reading_fault
from flywheel.errors import UserError
from flywheel.faults import UNREADABLE, describe_fault
from flywheel.label_files import FileRow, LabelFile, LeftOut, Part, splits_of
from flywheel.ledger.dialects import Renamer
from flywheel.ledger.samples import group_of
from flywheel.records import (
    Json,
    Sample,
    Split,
    canonical,
)
from flywheel.task import Task

_MOST_TRIED, _MOST_TRIES = 200, 8
"""answers that are tried, and samples that each is tried with until one takes it"""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_GIVEN = "group given"
_MOST_REASONS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """A labeled sample of a file, without its bytes."""

    place: str
    sample_id: str
    media_type: str
    metadata: dict[str, Json] = field(repr=False)
    size: int
    """bytes"""
    beginning: bytes = field(repr=False)
    """the first of them, for a look"""
    answer: Json
    num_annotations: int
    group: str
    split: Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Understood:
    """What a file holds, all of it read and held against the task."""

    file: LabelFile
    rows: tuple[Brought, ...]
    """each sample once"""
    notes: tuple[str, ...]
    """how it was understood"""
    num_twice: int
    """rows of samples that the file has before, with the same answer"""
    left_out: Mapping[str, Sequence[str]]
    """reason -> where in the file"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportInto:
    """What a file is held against: the task, and the project's rules."""

    task: Task
    group: str | None
    """[dataset] group"""
    rename: Renamer
    folder: Path
    """of the project, whose lines messages name"""


@dataclass
class _Reading:
    """What has been read of a file so far."""

    into: ImportInto
    found: dict[str, tuple[FileRow, Brought]] = field(default_factory=dict)
    parts: set[Part] = field(default_factory=set)
    disputed: set[str] = field(default_factory=set)
    num_twice: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, place: str, reason: str) -> None:
        self.left_out.setdefault(reason, []).append(place)


def understand(file: LabelFile, into: ImportInto) -> Understood:
    """Read all of a file and hold its answers against the task; nothing is stored.

    Raises:
        UserError: the file is broken, an answer is none of the task, or no row can be used; the
            message names file, line and field.
    """
    reading = _Reading(into)
    for row in file.rows():
        if isinstance(row, LeftOut):
            reading.leave_out(row.place, row.reason)
        elif row.sample.media_type.startswith("text/") and b"\0" in row.sample.payload:
            reading.leave_out(row.place, "its text has a NUL, which Label Studio does not keep")
        elif row.results:
            _add_drawn(reading, row)
        else:
            _add(reading, row, into.rename(row.answer), 1)
    typed, note = _typed(reading)
    for key, answer in typed.items():
        row, brought = reading.found[key]
        reading.found[key] = (row, replace(brought, answer=answer))
    _check_answers(reading)
    for key in reading.disputed:
        row, _ = reading.found.pop(key)
        reading.leave_out(row.place, "the file has it twice, with answers that differ")
    if reading.found:
        _try_rows(reading, file)
    else:
        most = sorted(reading.left_out.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]
        said = [f"{len(places):,} times {why}, as {places[0]}" for why, places in most]
        raise UserError(
            f"{file.path}: no label can be used; {'; '.join(said) or 'it has no row'}. Correct the "
            "file, or give --as, --input and --answer"
        )
    splits = splits_of(reading.parts)
    notes = [*file.notes, *([note] if note else ())]
    if "val" in reading.parts:
        held = "is held out, as there is no test part" if splits["val"] is Split.TEST else "trains"
        notes.append(f"the validation part {held}")
    return Understood(
        file=file,
        rows=tuple(
            replace(brought, split=splits[row.part]) for row, brought in reading.found.values()
        ),
        notes=tuple(notes),
        num_twice=reading.num_twice,
        left_out=reading.left_out,
    )


def _add_drawn(reading: _Reading, row: FileRow) -> None:
    """Add a row that annotators drew in Label Studio: what the task reads, where they agree."""
    task, answers, fault = reading.into.task, list[Json](), ""
    for result in row.results:
        if not result and not task.labeling.empty_is_answer:
            fault = fault or "submitted empty, which is no answer of the task"
            continue
        try:
            named = [{**one, "value": reading.into.rename(one.get("value"))} for one in result]
            answers.append(task.labeling.answer(named, row.sample))
        except UNREADABLE as error:
            fault = fault or describe_fault(error, [reading.into.folder])
    if not answers:
        reading.leave_out(
            f"{row.place} ({fault})", "labeling.answer of the task reads no answer there"
        )
    elif not all(task.agree(answers[0], other) for other in answers[1:]):
        reading.leave_out(row.place, "its annotators do not agree")
    else:
        _add(reading, row, task.merge(answers), len(answers))


def _add(reading: _Reading, row: FileRow, answer: Json, num_annotations: int) -> None:
    sample = row.sample
    reading.parts.add(row.part)
    known = reading.found.get(sample.id)
    if known is not None:
        before, brought = known
        is_same = canonical(brought.answer) == canonical(answer)
        reading.num_twice += is_same
        reading.disputed.update([] if is_same else [sample.id])
        if row.part == "test" and before.part != "test":  # held out once, held out for good
            reading.found[sample.id] = (replace(before, part="test"), brought)
        return
    metadata = {_GIVEN: row.group} if row.group is not None else sample.metadata
    brought = Brought(
        place=row.place,
        sample_id=sample.id,
        media_type=sample.media_type,
        metadata=sample.metadata,
        size=len(sample.payload),
        beginning=sample.payload[:200],
        answer=answer,
        num_annotations=num_annotations,
        group=group_of(
            metadata, sample.id, _GIVEN if row.group is not None else reading.into.group
        ),
        split=Split.TRAIN,
    )
    light = Sample(id=sample.id, payload=b"", media_type=sample.media_type)
    reading.found[sample.id] = (replace(row, sample=light, answer=None, results=()), brought)


def _typed(reading: _Reading) -> tuple[dict[str, Json], str]:
    """Return the answers that are numbers, by sample, and a note: cells of a table have no type.

    They are numbers if all look like one and the task takes them as such.
    """
    cells = {key: brought.answer for key, (row, brought) in reading.found.items() if row.is_text}
    texts = [text for text in cells.values() if isinstance(text, str)]
    if not texts or not all(_NUMBER.fullmatch(text.strip()) for text in texts):
        return {}, ""
    numbers = {text: json.loads(text) for text in set(texts)}
    if any(_answer_fault(reading.into, number) for number in numbers.values()):
        return {}, ""
    return {key: numbers[text] for key, text in cells.items()}, "answers are read as numbers"


def _answer_fault(into: ImportInto, answer: Json) -> str:
    return answer_fault(into.task, answer, into.folder)


def _check_answers(reading: _Reading) -> None:
    """Raise for the first answer that is none of the task."""
    seen = set[str]()
    for row, brought in reading.found.values():
        text = canonical(brought.answer)
        if text in seen:
            continue
        seen.add(text)
        fault = _answer_fault(reading.into, brought.answer)
        if fault:
            raise UserError(
                f"{row.place}, {row.field}: {text:.80} is no answer of the task: {fault}. Correct the "
                "file, give --answer, or let the task know it"
            )


def _try_rows(reading: _Reading, file: LabelFile) -> None:
    """Raise where the task reads no sample, or annotators could not give an answer.

    A night would stop at either. Of each answer some rows are tried: a single sample may be broken,
    and is left to the night.
    """
    into, unread, undrawn = reading.into, list[str](), dict[str, str]()
    known = {key: canonical(brought.answer) for key, (_, brought) in reading.found.items()}
    tries = dict.fromkeys(list(dict.fromkeys(known.values()))[:_MOST_TRIED], _MOST_TRIES)
    num_read = 0
    for row in file.rows():
        answer = known.get(row.sample.id, "") if isinstance(row, FileRow) else ""
        if not isinstance(row, FileRow) or not tries.get(answer):
            continue
        tries[answer] -= 1
        fault = reading_fault(into.task, row.sample, into.folder)
        if fault:
            unread.append(f"{row.place}: the task cannot read it: {fault}")
            continue
        num_read += 1
        value = reading.found[row.sample.id][1].answer
        fault = drawing_fault(into.task, value, row.sample, into.folder)
        if fault:
            said = f"{row.place}, {row.field}: annotators could not give {answer:.80}: {fault}"
            undrawn.setdefault(answer, said)
        else:  # with this sample, so that it was another sample and not the answer
            tries[answer] = 0
            undrawn.pop(answer, None)
        if not any(tries.values()):
            break
    if unread and not num_read:
        raise UserError(f"{unread[0]}. Give --input, or samples as production sends them")
    for said in undrawn.values():
        raise UserError(f"{said}. Correct labeling.result of the task, or the file")


def count_answers(rows: Iterable[Brought]) -> Counter[str]:
    """Return how often the file gives each answer, or a region of each label."""
    counts = Counter[str]()
    for row in rows:
        answer = row.answer
        if isinstance(answer, list) and all(isinstance(one, Mapping) for one in answer):
            counts.update(str(one.get("label", "?")) for one in answer)
            counts.update(["nothing"] if not answer else [])
        elif isinstance(answer, list):
            counts.update(map(str, answer or ["nothing"]))
        else:
            counts[answer if isinstance(answer, str) else canonical(answer)] += 1
    return counts
