"""Prints what was understood of a file of labels, before anything of it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from flywheel.annotate.imports import Brought, Standing, Understood, count_answers
from flywheel.cli.terminal import Terminal
from flywheel.records import Split, canonical

_SHOWN = 2
_MOST_ANSWERS = 10
_MOST_REASONS = 8
_LONGEST = 60
"""characters of a sample and of an answer that are shown"""


def print_import(understood: Understood, standing: Standing, console: Terminal) -> None:
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
    shown = [f"{_short(name)} {number:,}" for name, number in counts.most_common(_MOST_ANSWERS)]
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
    is_text = row.media_type.startswith("text/") or row.media_type == "application/json"
    text = row.beginning.decode(errors="replace")
    shown = f'"{_short(text)}"' if is_text else f"{row.media_type}, {row.size:,} bytes"
    group = "" if row.group == row.sample_id else f", group {_short(row.group)}"
    return f"{row.place}: {shown} -> {_short(canonical(row.answer))} ({row.split.value}{group})"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}..."
