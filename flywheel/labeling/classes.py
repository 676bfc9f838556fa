"""Choices: one class of several, or any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from flywheel.errors import AnnotationError
from flywheel.labeling.config import check_names, choices_control, config
from flywheel.labeling.results import chosen, refuse_unusable, some_of
from flywheel.labeling.views import Shown
from flywheel.records import Json, Sample, same_json
from flywheel.task import Labeling

_ONE, _SEVERAL = "choice", "choices"


def choice(shown: Shown, choices: Sequence[str], *, question: str = "") -> Labeling:
    """Ask for one of several classes; the answer is its name.

    Args:
        shown: what annotators see.
        choices: the classes; the first ten have a digit as their key.
        question: one line above.

    ```python
    from flywheel.labeling import choice, text
    from flywheel.records import Sample

    labeling = choice(text(), ["refund", "login"], question="What does the customer want?")
    sample = Sample.of(b"I cannot log in", "text/plain")
    assert labeling.answer(labeling.result("login", sample), sample) == "login"
    ```
    """
    names = check_names("choices", choices, shown)
    control = choices_control(_ONE, shown, names, 'choice="single" required="true"')
    return Labeling(
        config=config(shown, [control], question),
        data=shown.data,
        result=partial(_result_of_one, shown),
        answer=partial(_answer_of_one, names),
    )


def choices(
    shown: Shown, choices: Sequence[str], *, question: str = "", required: bool = False
) -> Labeling:
    """Ask for any number of classes; the answer is a sorted list of their names.

    Args:
        shown: what annotators see.
        choices: the classes; the first ten have a digit as their key.
        question: one line above.
        required: whether there must be one at least; else no choice is an answer, too.

    ```python
    from flywheel.labeling import choices, image

    labeling = choices(image(), ["indoors", "people", "text"])
    assert labeling.agree(["people", "indoors"], ["indoors", "people"])
    ```
    """
    names = check_names("choices", choices, shown)
    attributes = f'choice="multiple" required="{str(required).lower()}"'
    return Labeling(
        config=config(shown, [choices_control(_SEVERAL, shown, names, attributes)], question),
        data=shown.data,
        result=partial(_result_of_several, shown),
        answer=partial(_answer_of_several, names, required),
        empty_is_answer=not required,
        agree=_same_set,
    )


def _region(control: str, shown: Shown, values: Sequence[Json]) -> list[dict[str, Json]]:
    return [
        {
            "id": control,
            "type": "choices",
            "from_name": control,
            "to_name": shown.kind,
            "value": {"choices": list(values)},
        }
    ]


def _result_of_one(shown: Shown, answer: Json, _: Sample) -> list[dict[str, Json]]:
    return _region(_ONE, shown, [answer])


def _answer_of_one(names: Sequence[str], result: Sequence[Mapping[str, Json]], _: Sample) -> str:
    found = chosen(result, _ONE)
    if len(found) == 1:
        refuse_unusable(found, f"one of {some_of(names)}")
    if len(found) != 1 or found[0] not in names:
        raise AnnotationError(
            f"an annotation has the choices {found}. Choose exactly one of {some_of(names)}"
        )
    return str(found[0])


def _result_of_several(shown: Shown, answer: Json, _: Sample) -> list[dict[str, Json]]:
    if not isinstance(answer, list):
        raise AnnotationError(
            f"{answer!r:.60} is no list of choices. Let the model answer with a list, [] for none"
        )
    return _region(_SEVERAL, shown, answer) if answer else []


def _answer_of_several(
    names: Sequence[str], required: bool, result: Sequence[Mapping[str, Json]], _: Sample
) -> list[str]:
    found = chosen(result, _SEVERAL)
    refuse_unusable(found, f"a list of {some_of(names)}")
    unknown = [one for one in found if one not in names]
    if unknown or (required and not found):
        raise AnnotationError(
            f"an annotation has the choices {found}. Choose {'one or more' if required else 'any'} "
            f"of {some_of(names)}"
        )
    return sorted(set(map(str, found)))


def _same_set(one: Json, other: Json) -> bool:
    """Whether two answers have the same classes, in whatever order."""
    if not all(map(_is_list_of_text, (one, other))):
        return same_json(one, other)
    return set(one) == set(other)


def _is_list_of_text(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
