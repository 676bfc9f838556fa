"""Label Studio's XML configs with the names in them, and its results: what an annotator chose or wrote.

Names that users choose reach the XML escaped, in double quotes: Label Studio's client reads no
others. A name that its editor would change is refused when the task is made, not by an annotator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from flywheel.errors import AnnotationError, TaskError
from flywheel.labeling.views import Shown
from flywheel.records import Json

UNUSABLE = "unusable"
"""what annotators choose for a sample in which nothing can be seen, heard or read"""

USABLE = "usable"
"""the control that has it, beside marks and entries"""
_UNUSABLE_HOTKEY = "u"
_HOTKEYS = "1234567890"
_NO_NAME = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]|\$[\w\[{.]")
"""what XML cannot say, and what the editor takes for the name of a value"""
_GOLDEN_DEG = 137.508
"""between the hues of neighbours in the list, so that no two of them look alike"""


def check_names(what: str, names: Sequence[str], shown: Shown) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        TaskError: there is none, one stands twice, or Label Studio would show another one.
    """
    if isinstance(names, str) or not names:
        raise TaskError(f"{what} are {names!r}. Give a list of names, such as ['cat', 'dog']")
    for name in names:
        is_text = isinstance(name, str) and bool(name) and name == name.strip()
        if not is_text or _NO_NAME.search(name):
            raise TaskError(
                f"{what} have the name {name!r:.60}, which Label Studio does not show as it is. Give "
                "text without spaces around it, control characters or $ before a letter"
            )
        if names.count(name) > 1:
            raise TaskError(f"{what} have the name {name!r} twice. Give each once")
        if shown.can_be_unusable and name == UNUSABLE:
            raise TaskError(
                f"{what} have the name {name!r}, which annotators choose for a sample that gets no "
                f"label. Give another name, or {shown.kind}(unusable=False)"
            )
    return tuple(names)


def config(shown: Shown, controls: Sequence[str], question: str, *, marks: bool = False) -> str:
    """The XML of a labeling config; the controls of marks stand above what they are drawn on.

    Raises:
        TaskError: the question is one that Label Studio does not show as it is.
    """
    if _NO_NAME.search(question):
        raise TaskError(
            f"the question {question!r:.60} is not shown as it is by Label Studio. Write one line "
            "without control characters or $ before a letter"
        )
    header = [f'<Header value="{escape(question)}"/>'] if question else []
    parts = [*controls, shown.tag] if marks else [shown.tag, *controls]
    if marks and shown.can_be_unusable:
        parts.append(unusable_control(shown))
    lines = "\n".join([*header, *parts]).splitlines()
    return "\n".join(["<View>", *(f"  {line}" for line in lines), "</View>"])


def choices_control(name: str, shown: Shown, choices: Sequence[str], attributes: str) -> str:
    """Buttons, one of which says that the sample is unusable, if that can be."""
    keys = _hotkeys(choices)
    lines = [
        f'  <Choice value="{escape(one)}"{key}/>' for one, key in zip(choices, keys, strict=True)
    ]
    if shown.can_be_unusable:
        lines.append(f'  <Choice value="{UNUSABLE}" hotkey="{_UNUSABLE_HOTKEY}"/>')
    opening = f'<Choices name="{name}" toName="{shown.kind}" showInline="true" {attributes}>'
    return "\n".join([opening, *lines, "</Choices>"])


def unusable_control(shown: Shown) -> str:
    """A button beside marks or an entry, which says that there is nothing to label."""
    return choices_control(USABLE, shown, (), 'choice="multiple"')


def labels_control(tag: str, name: str, shown: Shown, labels: Sequence[str], more: str) -> str:
    """What marks are drawn with: each label in a colour of its own."""
    lines = [
        f'  <Label value="{escape(one)}" background="{_colour(number)}"{key}/>'
        for number, (one, key) in enumerate(zip(labels, _hotkeys(labels), strict=True))
    ]
    opening = f'<{tag} name="{name}" toName="{shown.kind}"{more}>'
    return "\n".join([opening, *lines, f"</{tag}>"])


def _hotkeys(names: Sequence[str]) -> list[str]:
    """Attributes: names that are digits have their own, others the digits in their order."""
    own = all(name in tuple(_HOTKEYS) for name in names)
    keys = [*names] if own else [*_HOTKEYS[: len(names)]]
    return [f' hotkey="{key}"' for key in keys] + [""] * (len(names) - len(keys))


def _colour(index: int) -> str:
    """Hues a golden angle apart, alternating between two lightnesses."""
    hue, lightness = index * _GOLDEN_DEG % 360.0, 0.5 if index % 2 == 0 else 0.7
    chroma = 1.0 - abs(2.0 * lightness - 1.0)
    channels = [(hue / 30.0 + shift) % 12.0 for shift in (0.0, 8.0, 4.0)]
    levels = [lightness - chroma / 2 * max(-1.0, min(k - 3.0, 9.0 - k, 1.0)) for k in channels]
    return "#" + "".join(f"{round(255 * level):02x}" for level in levels)


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


def check_usable(result: Sequence[Mapping[str, Json]], wanted: str, control: str = USABLE) -> None:
    """Raise for an annotation that says, in a control, that there is nothing to label.

    Raises:
        AnnotationError: it does; the sample gets no label.
    """
    if UNUSABLE in chosen(result, control):
        raise AnnotationError(
            f"an annotation says {UNUSABLE!r}, so the sample gets no label. A label would be {wanted}"
        )


def some_of(names: Sequence[str]) -> str:
    """The names for a message, the first of very many."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{', '.join(names[:_MOST_SHOWN])}{more}"
