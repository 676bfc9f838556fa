"""Requirements: a formula and the bound that it must keep, and which of them contradict each other.

A contradiction here is one that no data could resolve. Settings are texts in and the same texts
out; faults are ValueErrors, which pydantic gathers, so that all faults of a file are reported at
once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TypeVar

from flywheel.errors import SettingsError
from flywheel.metrics.parse import Aggregate, Formula, is_share, parse_formula, write_out

_SIGN = re.compile(r"(<=|>=|<|>)")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,2})?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A formula that must stay on one side of a bound."""

    text: str
    """as a person wrote it"""
    formula: Formula
    formula_text: str
    """the part of the text before the sign"""
    bound: float
    is_upper: bool
    """True: the value must lie below the bound"""
    is_strict: bool
    """True: the bound itself is not allowed"""


def parse_condition(text: str) -> Limit:
    """A formula, one of < <= > >=, and a number.

    Raises:
        SettingsError: the text is not such a condition, or its formula is invalid.
    """
    parts = [part.strip() for part in _SIGN.split(text)]
    if len(parts) != 3 or not _NUMBER.fullmatch(parts[2]):
        raise SettingsError(
            f"{text!r}: is no condition; write FORMULA < NUMBER with one of < <= > >=, "
            "such as error_cm.p90 < 1.0"
        )
    formula_text, sign, bound = parts
    try:
        formula = parse_formula(formula_text)
    except SettingsError as error:
        raise SettingsError(f"in {text!r}: {error}") from error
    return Limit(
        text=text.strip(),
        formula=formula,
        formula_text=formula_text,
        bound=float(bound),
        is_upper=sign.startswith("<"),
        is_strict=sign in {"<", ">"},
    )


def with_names(text: str, names: Mapping[str, str]) -> str:
    """The condition with short names in its formula written out, see `parse.write_out`.

    Raises:
        SettingsError: the text is no condition.
    """
    formula = parse_condition(text).formula_text
    return text.replace(formula, write_out(formula, names), 1)


def contradiction(limits: Sequence[Limit]) -> str | None:
    """Why no data could keep all the limits, naming those that disagree; None when some could.

    Seen are: a share beyond 0..1, one formula above one bound and below a lesser one, the same of
    two quantiles of one score or of two shares of it that only ever lie in one order, and one
    formula limited twice on the same side, of which one has no effect.
    """
    for limit in limits:
        if is_share(limit.formula) and _misses(limit, 0.0, 1.0):
            return f"{limit.text!r} can never be met: it is a share, which lies between 0 and 1"
    for first, second in combinations(limits, 2):
        if first.formula == second.formula and first.is_upper == second.is_upper:
            return f"{first.text!r} and {second.text!r} limit the same formula; keep one of them"
    for low, high in permutations(limits, 2):
        if _excludes(low, high):
            first, second = sorted((low, high), key=limits.index)
            return f"{first.text!r} and {second.text!r} can never be met together; change one"
    return None


def _excludes(low: Limit, high: Limit) -> bool:
    """Whether a lower bound on one formula leaves no room under an upper bound on another."""
    if low.is_upper or not high.is_upper or not _never_above(low.formula, high.formula):
        return False
    is_strict = low.is_strict or high.is_strict
    return low.bound > high.bound or (is_strict and low.bound == high.bound)


def _misses(limit: Limit, least: float, most: float) -> bool:
    """Whether all of least..most lies on the wrong side."""
    reached = least if limit.is_upper else most
    if limit.is_strict and limit.bound == reached:
        return True
    return limit.bound < least if limit.is_upper else limit.bound > most


def _never_above(first: Formula, second: Formula) -> bool:
    """Whether the first is at most the second, whatever the scores are.

    One formula; a lower and a higher quantile of one score; shares below a lesser and a greater
    bound; shares above a greater and a lesser bound.
    """
    if first == second:
        return True
    if not (isinstance(first, Aggregate) and isinstance(second, Aggregate)):
        return False
    if (first.score, first.kind) != (second.score, second.kind):
        return False
    if first.kind in {"quantile", "below"}:
        return first.numbers <= second.numbers
    return first.kind == "above" and first.numbers >= second.numbers


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
