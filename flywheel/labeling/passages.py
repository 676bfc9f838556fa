"""Spans of text: from a character to a character, with a label.

Label Studio's editor counts characters as Python does, an emoji as one; its versions before 1.5
counted UTF-16, an emoji as two. Text that it returns beside the places is compared with the
sample's, so that no label slips by a character.

Shapes: N and M spans of two answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from flywheel.labeling.matching import Element, Matching
from flywheel.labeling.regions import Marking
from flywheel.labeling.views import Shown, text_of
from flywheel.records import Array, Json, Sample
from flywheel.task import Labeling

_FARTHEST = 10**9
"""beyond ends no text"""
_SPACE = re.compile(r"\\n|\s")
"""the editor returns some line breaks as a backslash and an n"""


def spans(
    shown: Shown,
    labels: Sequence[str],
    *,
    question: str = "",
    overlap: float = 0.5,
    share: float = 0.8,
) -> Labeling:
    """Ask for the parts of a text that are something; none is an answer, too.

    The answer is a list of {"start", "end", "label"}, sorted: `text[start:end]` is the span.

    Args:
        shown: a text.
        labels: the kinds of spans.
        question: one line above the text.
        overlap: of two spans with one label, from which they are the same: the characters that
            they share, over the characters of both together.
        share: of the spans of two answers that are the same, from which the answers agree.

    ```python
    from flywheel.labeling import spans, text
    from flywheel.records import Sample

    labeling = spans(text(), ["person", "place"])
    answer = [{"start": 2, "end": 5, "label": "person"}]
    sample = Sample.of("😀 Ann".encode(), "text/plain")
    assert labeling.answer(labeling.result(answer, sample), sample) == answer
    ```
    """
    marking = Marking(
        name="spans",
        noun="span",
        tag="Labels",
        attributes="",
        on="text",
        frame=_frame,
        shared=lambda _: {},
        write=_write,
        read=_read,
        order=_order,
    )
    matching = Matching(
        is_element=_is_span, likeness=span_overlaps, mean=_middle, least=overlap, share=share
    )
    return marking.labeling(shown, labels, question, matching)


def _frame(sample: Sample) -> str:
    return text_of(sample, len(sample.payload))  # how long it may be was checked when it was shown


def _order(span: Element) -> tuple[Json, ...]:
    return (span["start"], span["end"], span["label"])


def _is_span(value: Json) -> bool:
    if not isinstance(value, Mapping) or "label" not in value:
        return False
    start, end = value.get("start"), value.get("end")
    if not _is_place(start) or not _is_place(end):
        return False
    return 0 <= start < end <= _FARTHEST


def _is_place(value: Json) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _write(span: Element, text: str) -> dict[str, Json] | None:
    start, end = span["start"], min(span["end"], len(text))
    return {"start": start, "end": end, "text": text[start:end]} if start < end else None


def _read(value: Mapping[str, Json], text: str) -> dict[str, Json]:
    start: Json = value.get("start")
    end: Json = value.get("end")
    if not _is_span({**value, "label": ""}) or end > len(text):
        raise ValueError(
            f"from {start!r:.20} to {end!r:.20} in a text of {len(text):,} characters. Mark it again"
        )
    said, there = value.get("text"), text[start:end]
    if isinstance(said, str) and _SPACE.sub("", said) != _SPACE.sub("", there):
        raise ValueError(
            f"from {start} to {end}, {said!r:.40}, where the text has {there!r:.40}. Use a Label "
            "Studio that counts characters and not UTF-16, 1.5 or newer, and mark it again"
        )
    return {"start": start, "end": end}


def span_overlaps(ones: Sequence[Element], others: Sequence[Element]) -> Array:
    """(N, M) characters that two spans share, over the characters of both together, 0..1."""
    starts, ends = (np.array([one[name] for one in ones])[:, None] for name in ("start", "end"))
    other_starts, other_ends = (
        np.array([one[name] for one in others]) for name in ("start", "end")
    )
    inner = (np.minimum(ends, other_ends) - np.maximum(starts, other_starts)).clip(min=0)
    found: Array = inner / ((ends - starts) + (other_ends - other_starts) - inner)
    return found


def _middle(some: Sequence[Element]) -> dict[str, Any]:
    """The characters that more than half of the spans have: of two, those that both have."""
    starts, ends = (sorted(span[name] for span in some) for name in ("start", "end"))
    start, end = starts[len(starts) // 2], ends[(len(ends) - 1) // 2]
    if start >= end:  # they form a chain, of which no character is in most
        start, end = some[0]["start"], some[0]["end"]
    return {"start": start, "end": end, "label": some[0]["label"]}
