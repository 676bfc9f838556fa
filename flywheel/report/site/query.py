"""What a gallery shows, as its address says it, so that an address can be sent to a colleague."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from flywheel.errors import UserError
from flywheel.records import FailureState

GALLERY = "/pages/samples"
ANY = "any"
"""a failure in whatever state"""
STATES = (ANY, *(state.value for state in FailureState))
CHANGES = {
    "fixed": "right by the candidate, wrong by the champion",
    "broken": "wrong by the candidate, right by the champion",
    "neither": "wrong by both models",
    "both": "right by both models",
}
MODELS = ("candidate", "champion")
_LONGEST = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """The filters of a gallery; what is empty filters nothing."""

    slice: str = ""
    signal: str = ""
    state: str = ""
    """of the failure, or `any`"""
    answer: str = ""
    """of the model: the answer itself, or a class that it names"""
    label: str = ""
    """the same of the label"""
    low: float | None = None
    high: float | None = None
    """bounds of the confidence, or of the `score`"""
    night: int | None = None
    """that looked at the sample: what arrived before it and after the one before"""
    annotator: str = ""
    test: int | None = None
    """night whose test set is shown, in place of production"""
    model: str = ""
    """whose answers to the test set count: candidate or champion"""
    change: str = ""
    """between the two models on the test set"""
    score: str = ""
    """of the test set that `low` and `high` bound; "": the confidence"""
    area: str = ""
    """part of the map, the corners of a polygon, see `flywheel.report.site.map`"""
    upto: int | None = None
    """the newest prediction of that map"""
    start: int | None = None
    """where the page begins"""

    def address(self, **changes: Any) -> str:
        """Return the address of this gallery with some filters changed; it begins at its first page."""
        asked = replace(self, **{"start": None} | changes)
        given = {one.name: getattr(asked, one.name) for one in fields(asked)}
        found = {name: value for name, value in given.items() if value not in ("", None)}
        return f"{GALLERY}?{urlencode(found)}" if found else GALLERY

    def chips(self) -> Iterator[tuple[str, str]]:
        """Yield each filter in words, and the address without it."""
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name == "area" and value:
                yield "part of the map", self.address(area="", upto=None)
            elif one.name not in ("start", "upto") and value not in ("", None):
                without: Any = "" if isinstance(value, str) else None
                yield (
                    f"{_WORDS.get(one.name, one.name)} {value}",
                    self.address(**{one.name: without}),
                )


_WORDS = {"low": "from", "high": "to", "test": "test set of night", "state": "suspect"}


def samples_address(**filters: Any) -> str:
    """Return the address of a gallery with these filters."""
    return Query(**filters).address()


def read_query(given: Mapping[str, str]) -> Query:
    """Return the filters of an address.

    Raises:
        UserError: a filter is unknown, or its value is none that it can have.
    """
    known = {one.name: str(one.type) for one in fields(Query)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise UserError(
                f"{name[:_LONGEST]!r} is no filter of the samples. Use {', '.join(known)}."
            )
        if value:
            found[name] = _value(name, value, known[name])
    query = Query(**found)
    for name, allowed in (("state", STATES), ("model", MODELS), ("change", tuple(CHANGES))):
        value = getattr(query, name)
        if value and value not in allowed:
            raise UserError(f"{name} is {value[:_LONGEST]!r}. Choose {', '.join(allowed)}.")
    if query.test is None and (query.model or query.change or query.score):
        raise UserError(
            "model, change and score are of a night's test set, and test is missing. Add the night's "
            "number, such as test=3."
        )
    if bool(query.area) != (query.upto is not None) or (query.area and query.test is not None):
        raise UserError(
            "area and upto name a part of the map, which shows production. Give both of them, and no test."
        )
    return query


def _value(name: str, value: str, kind: str) -> Any:
    if kind == "str":
        if "\x00" in value:
            raise UserError(f"{name} holds a NUL. Leave it out.")
        return value if name == "area" else value[:_LONGEST]
    try:
        number = int(value) if kind.startswith("int") else float(value)
        is_usable = abs(number) < 2**53
    except (ValueError, OverflowError):
        is_usable = False
    if not is_usable:
        raise UserError(
            f"{name} is {value[:_LONGEST]!r}, which is no number. Write one, such as 3."
        )
    return number
