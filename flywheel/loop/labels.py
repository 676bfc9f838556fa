"""Stored labels held against the task: what it no longer knows is listed before anything is trained.

A class that was renamed or taken out of the task leaves labels behind that annotators were paid
for. `rename_class` keeps them: they are read by the new name from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flywheel.annotate.fits import drawing_fault
from flywheel.errors import TaskError, UserError
from flywheel.faults import UNREADABLE, describe_fault
from flywheel.ledger.datasets import current_labels, is_start_data_settled
from flywheel.ledger.dialects import Renamer, holds
from flywheel.ledger.engine import add_rename
from flywheel.ledger.samples import load_each
from flywheel.loop.context import Loop
from flywheel.records import SENSOR, Json, Sample, canonical
from flywheel.shell import quoted

_CHUNK = 256
_MOST_ROUND_TRIPS = 200
_SHOWN = 5
_MOST_TRIES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """All labels of one answer."""

    answer: Json
    sample_ids: list[str] = field(default_factory=list)
    by_annotators: list[str] = field(default_factory=list)
    """those of the samples whose label is not of a sensor"""


def check_labels(loop: Loop) -> None:
    """Raise for stored labels that the task does not know, before a night does anything with them.

    Raises:
        TaskError: it names each answer, how many labels have it, and the command that keeps them.
    """
    kinds = _kinds(loop)
    unknown = list(_unknown(loop, kinds))
    if not unknown:
        return
    listed = "; ".join(
        f"{kind.answer!r} ({len(kind.sample_ids):,} labels): {why}"
        for kind, why in unknown[:_SHOWN]
    )
    if len(kinds) > 1 and len(unknown) == len(kinds):
        raise TaskError(
            f"the task can read none of its {sum(len(one.sample_ids) for one in kinds):,} stored "
            f"labels, of {unknown[0][0].answer!r:.60} for one: {unknown[0][1]}. {_anew(loop)}"
        )
    more = f"; and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    name = unknown[0][0].answer
    old = quoted(name if isinstance(name, str) else canonical(name))
    raise TaskError(
        f"the task does not know the answer of {sum(len(one.sample_ids) for one, _ in unknown):,} "
        f"stored labels: {listed}{more}. Put the class back into the task, or keep its labels and "
        f"the test set under its new name: flywheel rename-class {old} NEW "
        f"{quoted(str(loop.project.directory))}"
    )


def _anew(loop: Loop) -> str:
    """Return what to do where the task reads no stored label."""
    if loop.project.task is None:
        return (
            "Fix targets, labeling.result or labeling.answer of the task, then run flywheel check"
        )
    return (
        "Undo what has changed in [task] of flywheel.toml; or, if another question is meant, begin a "
        f"project of its own for it: flywheel init DIR --labels {quoted(loop.project.task.data)}"
    )


def rename_class(loop: Loop, old: str, new: str) -> int:
    """Read a class by a new name from now on, wherever it is stored; how many labels have it.

    Raises:
        UserError: no label has the old name, the task still knows it, or does not know the new one.
    """
    kinds = _kinds(loop)
    before, after = _typed(kinds, old, new)
    held = [kind for kind in kinds if holds(kind.answer, before)]
    if not held:
        known = ", ".join(repr(kind.answer) for kind in kinds[:_SHOWN]) or "none"
        raise UserError(f"no stored label has the class {old!r}. The labels have: {known}")
    if len(list(_unknown(loop, held))) < len(held):
        raise UserError(
            f"the task still knows the class {old!r}. Rename it in the task first, so that no label "
            "of a class that is in use is read by another name"
        )
    rename = Renamer([(before, after)])
    named = [
        _Kind(
            answer=rename(kind.answer),
            sample_ids=kind.sample_ids,
            by_annotators=kind.by_annotators,
        )
        for kind in held
    ]
    for kind, why in _unknown(loop, named):
        raise UserError(
            f"the task does not know {kind.answer!r} either: {why}. Name one of its own"
        )
    with loop.ledger.begin() as connection:
        add_rename(connection, before, after, loop.now())
    loop.ledger.load_renames()
    return sum(len(kind.sample_ids) for kind in held)


def _typed(kinds: Iterable[_Kind], old: str, new: str) -> tuple[Json, Json]:
    """The names as the labels have them: a number, if they have no such text."""
    if any(holds(kind.answer, old) for kind in kinds):
        return old, new
    try:
        number = json.loads(old)
    except ValueError:
        return old, new
    try:
        return number, json.loads(new)
    except ValueError:
        return number, new


def _kinds(loop: Loop) -> list[_Kind]:
    with loop.ledger.read() as connection:
        labeled = current_labels(connection)
        if not is_start_data_settled(connection):  # the next dataset version takes it in anew
            labeled = [(label, split) for label, split in labeled if label.source != "start"]
    kinds: dict[str, _Kind] = {}
    for label, _ in labeled:
        kind = kinds.setdefault(canonical(label.answer), _Kind(answer=label.answer))
        kind.sample_ids.append(label.sample_id)
        if label.source != SENSOR:
            kind.by_annotators.append(label.sample_id)
    return list(kinds.values())


def _unknown(loop: Loop, kinds: list[_Kind]) -> Iterator[tuple[_Kind, str]]:
    """The answers that cannot be trained on, or that annotators could not give; and why."""
    faults: dict[int, str] = {}
    for start in range(0, len(kinds), _CHUNK):
        chunk = kinds[start : start + _CHUNK]
        if _target_fault(loop, chunk):
            faults |= {id(kind): why for kind in chunk if (why := _target_fault(loop, [kind]))}
    ids = [kind.by_annotators[0] for kind in kinds if kind.by_annotators][:_MOST_ROUND_TRIPS]
    with loop.ledger.read() as connection:
        samples, _ = load_each(connection, loop.blobs, ids)
    for kind in kinds:
        sample = samples.get(kind.by_annotators[0]) if kind.by_annotators else None
        if id(kind) not in faults and sample is not None:
            why = _drawing_fault(loop, kind, sample)
            if why and not _can_draw_others(loop, kind):
                faults[id(kind)] = why
        if id(kind) in faults:
            yield kind, faults[id(kind)]


def _can_draw_others(loop: Loop, kind: _Kind) -> bool:
    """Whether another sample of the kind can be drawn, so that it was the sample and not the answer."""
    with loop.ledger.read() as connection:
        samples, _ = load_each(connection, loop.blobs, kind.by_annotators[1:_MOST_TRIES])
    return any(not _drawing_fault(loop, kind, sample) for sample in samples.values())


def _drawing_fault(loop: Loop, kind: _Kind, sample: Sample) -> str:
    """Why annotators could not give the answer to this sample; "" when they could."""
    return drawing_fault(loop.task, kind.answer, sample, loop.project.directory)


def _target_fault(loop: Loop, kinds: list[_Kind]) -> str:
    """Why targets() of the task fails on these answers; "" when it does not."""
    try:
        loop.task.targets([kind.answer for kind in kinds])
    except UNREADABLE as error:
        return describe_fault(error, [loop.project.directory])
    return ""
