"""Whether a sample, an answer or another labeling config fits a task, and where it does not.

Annotations that were drawn under another config are read if the two differ in nothing that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from flywheel.faults import NO_ANSWER, describe_fault
from flywheel.media import names_in
from flywheel.records import Json, Sample
from flywheel.task import Task


def answer_fault(task: Task, answer: Json, folder: Path) -> str:
    """Return why a value is no answer of the task; the fault names lines of a folder's files."""

    def ask() -> bool:
        task.targets([answer])
        task.scores(answer, answer)
        return task.agree(answer, answer)

    return _fault(ask, folder)


def drawing_fault(task: Task, answer: Json, sample: Sample, folder: Path) -> str:
    """Return why annotators could not give an answer to a sample."""

    def ask() -> bool:
        task.labeling.answer(task.labeling.result(answer, sample), sample)
        return True

    return _fault(ask, folder)


def reading_fault(task: Task, sample: Sample, folder: Path) -> str:
    """Return why the task cannot read a sample."""

    def ask() -> bool:
        task.inputs([sample])
        return True

    return _fault(ask, folder)


def _fault(ask: Callable[[], bool], folder: Path) -> str:
    try:
        agrees = ask()
    except NO_ANSWER as error:
        return describe_fault(error, [folder])
    return "" if agrees else "agree() of the task says that it differs from itself"


_FILES = ("Image", "Audio", "AudioPlus", "Video", "Pdf", "TimeSeries")
_TEXTS = ("Text", "HyperText", "Paragraphs", "Table", "List", "Chat")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Control:
    """A tag with which annotators answer."""

    tag: str
    shown_in: str
    """name of the tag that it belongs to"""
    labels: frozenset[str]


def inputs_in(config: str) -> tuple[str, ...]:
    """Return the $names that a config shows: those of media first, then of texts, then others."""
    order = {tag: place for place, tags in enumerate((_FILES, _TEXTS)) for tag in tags}
    ranks = {
        name: min((order.get(node.tag, 2) for node in nodes), default=2)
        for name, nodes in names_in(config).items()
    }
    return tuple(sorted(ranks, key=lambda name: ranks[name]))


def differences(theirs: str, ours: str) -> list[str]:
    """Return how a labeling config differs from a task's where the answers are concerned."""
    there, here = _controls(theirs), _controls(ours)
    if there is None:
        return ["its labeling config is no XML"]
    return list(_compared(there, here or {}))


def _compared(there: Mapping[str, _Control], here: Mapping[str, _Control]) -> Iterator[str]:
    for name, control in here.items():
        other = there.get(name)
        if other is None:
            yield f"it has no <{control.tag} name={name!r}>, which the task reads"
            continue
        if other.tag != control.tag:
            yield f"{name!r} is <{other.tag}> there and <{control.tag}> in the task"
        if other.shown_in != control.shown_in:
            yield f"{name!r} is of {other.shown_in!r} there and of {control.shown_in!r} in the task"
        if more := sorted(other.labels - control.labels):
            yield f"{name!r} has labels that the task does not know: {', '.join(more[:5])}"
        if fewer := sorted(control.labels - other.labels):
            yield f"{name!r} lacks labels of the task: {', '.join(fewer[:5])}"
    for name, control in there.items():
        if name not in here:
            yield f"its <{control.tag} name={name!r}> is not read by the task"


def _controls(config: str) -> dict[str, _Control] | None:
    """Return the tags with which annotators answer, by name; None if it is no XML."""
    try:
        root = ET.fromstring(config)  # noqa: S314  of the user's own server, parsed on their machine
    except ET.ParseError:
        return None
    return {
        node.attrib["name"]: _Control(
            tag=node.tag,
            shown_in=node.attrib["toName"],
            labels=frozenset(
                one.attrib.get("alias") or one.attrib["value"]
                for one in node.iter()
                if one is not node and "value" in one.attrib
            ),
        )
        for node in root.iter()
        if "name" in node.attrib and "toName" in node.attrib
    }
