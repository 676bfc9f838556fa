"""Exceptions of the user's code and faults of settings, each as one line that says what to fix.

A traceback names thirty lines of torch and of flywheel; the one that the user can change is the
last one of theirs. The caller passes the folders that hold the user's code.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flywheel.errors import TaskError, UserError

UNREADABLE = (UserError, LookupError, TypeError, ValueError, AttributeError)
"""what a function of a task may raise when it is given what is no answer of the task"""
NO_ANSWER = (*UNREADABLE, RuntimeError)
"""the same of its targets: torch raises RuntimeError for those of the wrong shape"""

_SELF_EXPLAINING = (RuntimeError, ValueError)  # what torch and numpy raise with a whole sentence


def describe_fault(error: BaseException, folders: Iterable[Path]) -> str:
    """`my_task.py:57: KeyError: 'lens'`; without a place when no line of these folders is in it."""
    if isinstance(error, TaskError) and error.__cause__ is not None:  # of flywheel.calls
        error = error.__cause__
    lines = str(error.msg if isinstance(error, SyntaxError) else error).splitlines()
    said = lines[0] if lines else ""
    if not said:
        said = type(error).__name__
    elif not isinstance(error, (SyntaxError, UserError)) and type(error) not in _SELF_EXPLAINING:
        said = f"{type(error).__name__}: {said}"
    place = _place(error, list(folders))
    return f"{place}: {said}" if place else said


def _place(error: BaseException, folders: list[Path]) -> str | None:
    """The innermost line in one of the folders; what is installed below them does not count."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    for file, number in reversed(lines):
        for folder in folders:
            path = Path(file)
            if path.is_relative_to(folder):
                name = path.relative_to(folder)
                if "site-packages" not in name.parts:
                    return f"{name}:{number}" if number else str(name)
    return None


def describe_detail(detail: ErrorDetails, settings: type[BaseModel]) -> str:
    """One line: where in the settings, what was there, what is allowed."""
    *sections, key = (str(part) for part in detail["loc"]) if detail["loc"] else ("",)
    where = ".".join([*sections, key])
    if detail["type"] == "extra_forbidden":
        known = sorted(_section(settings, sections))
        nearest = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        return f"unknown key {where!r}; {hint}"
    if detail["type"] == "missing":
        # A table of an array has a number in its place; people write [[name]].
        header = "[[{}]]" if sections and sections[-1].isdigit() else "[{}]"
        table = ".".join(part for part in sections if not part.isdigit())
        return f"{where!r} is missing; write it under {header.format(table or key)}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" and (not sections or isinstance(detail["input"], dict)):
        return f"[{where}] {message}"
    if detail["type"] == "tuple_type":
        example = f"[[{key}]]" if key == "published" else f'{key} = ["a", "b"]'
        return f"{where} = {detail['input']!r}: input should be a list, such as {example}"
    example = _example(settings, sections, key) if detail["type"] == "string_type" else ""
    return f"{where} = {detail['input']!r}: {message[0].lower()}{message[1:]}{example}"


def _example(settings: type[BaseModel], sections: list[str], key: str) -> str:
    """The default, as one writes it: a text without quotes is the usual slip."""
    field = _section(settings, sections).get(key)
    default = field and field.default
    return f'; write it in quotes, such as {key} = "{default}"' if isinstance(default, str) else ""


def _section(settings: type[BaseModel], sections: list[str]) -> dict[str, FieldInfo]:
    """The keys of a section or of an array's table; none for anything else."""
    model: Any = settings
    for section in sections:
        # The number of an array's table follows its name: published, 0.
        model = get_args(model)[0] if section.isdigit() else model.model_fields[section].annotation
    return getattr(model, "model_fields", {})
