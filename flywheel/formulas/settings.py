"""Formulas as settings: lists of texts in, the same texts out, or what is wrong with them.

Raises ValueError, which is the one error that pydantic gathers, so that all faults of a file are
told at once. Refuses to know pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from flywheel.errors import SettingsError
from flywheel.formulas.conditions import contradiction, parse_condition
from flywheel.formulas.parse import parse_formula
from flywheel.formulas.tree import Formula

_Parsed = TypeVar("_Parsed")


def text_list(value: object) -> tuple[str, ...]:
    """A list of TOML as the tuple that a frozen section holds."""
    if isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise ValueError('is no list of texts; write one such as ["error_cm.p90 < 1.0"]')


def one_formula(text: str) -> str:
    """The text, when it is a formula."""
    _read(parse_formula, text)
    return text


def all_formulas(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts, when all are formulas and no two are the same."""
    known: dict[Formula, str] = {}
    for text in texts:
        formula = _read(parse_formula, text)
        if formula in known:
            raise ValueError(f"{known[formula]!r} and {text!r} are the same formula; keep one")
        known[formula] = text
    return texts


def all_conditions(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts, when all are conditions and nothing contradicts them."""
    fault = contradiction([_read(parse_condition, text) for text in texts])
    if fault:
        raise ValueError(fault)
    return texts


def check_places(optimize: str, require: Sequence[str], ignore: Sequence[str]) -> None:
    """That nothing is ignored and decides as well; all texts are valid."""
    ignored = {parse_formula(text): text for text in ignore}
    places = [("optimize", optimize, parse_formula(optimize))]
    places += [("require", text, parse_condition(text).formula) for text in require]
    for place, text, formula in places:
        if formula in ignored:
            raise ValueError(
                f"{place} has {text!r} and ignore has {ignored[formula]!r}, the same formula; "
                "take it out of one of them"
            )


def _read(parse: Callable[[str], _Parsed], text: str) -> _Parsed:
    try:
        return parse(text)
    except SettingsError as error:
        raise ValueError(str(error)) from error
