"""Label Studio's results: what an annotator chose, and the values of what was marked or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flywheel.errors import AnnotationError
from flywheel.labeling.config import UNUSABLE, USABLE
from flywheel.records import Json

_MOST_SHOWN = 20


def values_of(result: Sequence[Mapping[str, Json]], control: str) -> Iterator[Mapping[str, Json]]:
    """The values of a control's regions."""
    for region in result:
        if region.get("from_name") == control:
            value = region.get("value")
            yield value if isinstance(value, Mapping) else {}


def listed(value: Mapping[str, Json], key: str) -> list[Json]:
    """What a region's value has under a key; Label Studio writes a list even of one."""
    found = value.get(key)
    return found if isinstance(found, list) else [] if found is None else [found]


def chosen(result: Sequence[Mapping[str, Json]], control: str) -> list[Json]:
    """Every choice that an annotator made in a control."""
    return [one for value in values_of(result, control) for one in listed(value, "choices")]


def refuse_unusable(choices: Sequence[Json], wanted: str) -> None:
    """Raise for an annotation that says that there is nothing to label.

    Raises:
        AnnotationError: it does; the sample gets no label.
    """
    if UNUSABLE in choices:
        raise AnnotationError(
            f"an annotation says {UNUSABLE!r}, so the sample gets no label. A label would be {wanted}"
        )


def check_usable(result: Sequence[Mapping[str, Json]], wanted: str) -> None:
    """Raise for an annotation in which the button of `unusable_control` is chosen.

    Raises:
        AnnotationError: see `refuse_unusable`.
    """
    refuse_unusable(chosen(result, USABLE), wanted)


def some_of(names: Sequence[str]) -> str:
    """The names for a message, the first of very many."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{', '.join(names[:_MOST_SHOWN])}{more}"
