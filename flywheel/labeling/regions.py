"""Marks as regions of Label Studio: written as a pre-annotation, read from an annotation.

What one kind of mark needs (boxes, keypoints, polygons, spans) is a `Marking`; what all have in
common is here. A mark that lies outside of the sample is not shown, since Label Studio would not
open a labeling task with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from flywheel.errors import AnnotationError, TaskError
from flywheel.labeling.config import (
    check_names,
    check_usable,
    config,
    labels_control,
    listed,
    some_of,
    values_of,
)
from flywheel.labeling.matching import Element, Matching
from flywheel.labeling.views import Shown
from flywheel.records import Json, Sample
from flywheel.task import Labeling

Frame = TypeVar("Frame")
"""what places are relative to: the size of a picture, a text"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marking(Generic[Frame]):
    """One kind of mark, as Label Studio and as answers have it."""

    name: str
    """of the control, such as boxes"""
    noun: str
    """one of them, for messages"""
    tag: str
    """of the control; its lower case is the type of regions, and where they have their label"""
    attributes: str
    on: str
    """kind of what is shown that it can be marked on"""
    frame: Callable[[Sample], Frame]
    shared: Callable[[Frame], Mapping[str, Json]]
    """what every region has beside its value"""
    write: Callable[[Element, Frame], dict[str, Json] | None]
    """a region's value without its label; None for a mark outside of the frame"""
    read: Callable[[Mapping[str, Json], Frame], dict[str, Json]]
    """an element without its label; raises ValueError, in two sentences, for a value that is none"""
    order: Callable[[Element], tuple[Json, ...]] | None = None
    """in which marks of an annotation are sorted; None: as they were drawn"""

    def labeling(
        self,
        shown: Shown,
        labels: Sequence[str],
        question: str,
        matching: Matching,
        drawing: Callable[[Sample, Json | None, Json | None], bytes] | None = None,
    ) -> Labeling:
        """The whole of it.

        Raises:
            TaskError: it cannot be marked on what is shown, or the labels cannot be shown.
        """
        if shown.kind != self.on:
            raise TaskError(
                f"{self.name} cannot be marked on {shown.kind!r}. Write {self.name}({self.on}(), "
                "[...])"
            )
        names = check_names("labels", labels, shown)
        control = labels_control(self.tag, self.name, shown, names, self.attributes)
        return Labeling(
            config=config(shown, [control], question, marks=True),
            data=shown.data,
            accepts=shown.accepts,
            result=partial(self._result, shown, matching),
            answer=partial(self._answer, names),
            empty_is_answer=True,
            agree=matching.agree,
            merge=matching.merge,
            drawing=drawing,
        )

    def _result(
        self, shown: Shown, matching: Matching, answer: Json, sample: Sample
    ) -> list[dict[str, Json]]:
        elements = matching.elements(answer)
        if elements is None:
            raise AnnotationError(
                f"{answer!r:.60} is no list of {self.name}. Let the model answer with what "
                f"flywheel.labeling.{self.name} describes"
            )
        frame = self.frame(sample)
        regions: list[dict[str, Json]] = []
        for number, element in enumerate(elements):
            value, sure = self.write(element, frame), element.get("confidence")
            # The list of regions shows it, and can be sorted by it.
            score = {"score": sure} if isinstance(sure, (int, float)) and 0 <= sure <= 1 else {}
            if value is not None:
                regions.append(
                    {
                        "id": f"{self.name}-{number}",
                        "from_name": self.name,
                        "to_name": shown.kind,
                        "type": self.tag.lower(),
                        **self.shared(frame),
                        **score,
                        "value": {**value, self.tag.lower(): [element["label"]]},
                    }
                )
        return regions

    def _answer(
        self, names: Sequence[str], result: Sequence[Mapping[str, Json]], sample: Sample
    ) -> list[dict[str, Json]]:
        check_usable(result, f"the list of its {self.name}, which may be empty")
        frame = self.frame(sample)
        elements = []
        for value in values_of(result, self.name):
            label = self._label(names, value)
            try:
                elements.append({"label": label, **self.read(value, frame)})
            except ValueError as error:
                raise AnnotationError(
                    f"an annotation has a {self.noun} {label!r} {error}"
                ) from error
        return sorted(elements, key=self.order) if self.order is not None else elements

    def _label(self, names: Sequence[str], value: Mapping[str, Json]) -> str:
        found = listed(value, self.tag.lower())
        if len(found) != 1 or found[0] not in names:
            said = ", ".join(map(repr, found)) or "nothing"
            raise AnnotationError(
                f"an annotation has a {self.noun} named {said}. Name each one of {some_of(names)}"
            )
        return str(found[0])
