"""What a file of labels holds, whatever its format: one row for each labeled sample.

A reader is a function that takes a path and returns a `LabelFile`. Its rows are read anew each time
they are asked for, one by one, so that a file may be larger than the memory. What cannot be used is
a `LeftOut` with its reason; what is wrong with the file itself raises a UserError that names file,
line and field.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from flywheel.errors import UserError
from flywheel.records import Json, Sample, Split

Part = Literal["train", "val", "test"]
"""a split as files name it"""

_PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "testset"), "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRow:
    """One labeled sample of a file."""

    place: str
    """where it is in the file, as messages name it"""
    sample: Sample
    field: str = "answer"
    """what holds the answer there, as messages name it"""
    answer: Json = None
    is_text: bool = False
    """whether the answer is a cell of a table without types, where 3 may be a number or a name"""
    results: tuple[list[dict[str, Json]], ...] = ()
    """in place of an answer: what annotators drew, as Label Studio exports it, each annotator once"""
    group: str | None = None
    """None: the project's rule says it"""
    part: Part = "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something in a file that is no label, and why."""

    place: str
    reason: str
    """the same text for equal reasons, so that they can be counted"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFile:
    """A file or folder of labels that was understood."""

    path: Path
    format: str
    """as `--as` names it"""
    notes: tuple[str, ...]
    """how it was understood: columns, encoding, folders"""
    rows: Callable[[], Iterator[FileRow | LeftOut]] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which columns of a table are what; None is guessed by name, and the guess is a note."""

    input: str | None = None
    answer: str | None = None
    group: str | None = None
    split: str | None = None
    usual: Columns | None = None
    """the names in other files of the project: the first guess, where the table has them"""
    are_settings: bool = False
    """whether section [task] gives them, and not the options of a command"""

    def how(self, role: str) -> str:
        """Return how a column is named, as messages say it."""
        return f'{role} = "NAME" in [task]' if self.are_settings else f"--{role} NAME"


def part_of(text: Json, place: str) -> Part:
    """The split that a text names; an empty one trains.

    Raises:
        UserError: it names none.
    """
    if text is None or text == "":
        return "train"
    part = _PARTS.get(str(text).strip().lower())
    if part is None:
        refuse(place, f"{text!r} is no split", "Write train, val or test")
    return part


def splits_of(parts: Collection[Part]) -> dict[Part, Split]:
    """The split of each part: val is held out where a file has no test part, else it trains."""
    val = Split.TRAIN if "test" in parts else Split.TEST
    return {"train": Split.TRAIN, "val": val, "test": Split.TEST}


def refuse(place: str, what: str, todo: str) -> NoReturn:
    """Raise for a fault of a file."""
    raise UserError(f"{place}: {what}. {todo}")


def field_of(record: Any, name: str, kind: type | tuple[type, ...], place: str) -> Any:
    """The value of a field that must be there.

    Raises:
        UserError: it is missing or of another type.
    """
    value = record.get(name) if isinstance(record, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = "/".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        said = "is missing" if value is None else f"is {value!r:.40}"
        refuse(f"{place}, field {name}", f"it {said}, not a {wanted}", "Correct it there")
    return value
