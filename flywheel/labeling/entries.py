"""What is entered beside a sample: one class of several, any number of them, a number, or text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from flywheel.errors import AnnotationError, TaskError
from flywheel.labeling.config import (
    check_names,
    check_usable,
    choices_control,
    chosen,
    config,
    listed,
    some_of,
    unusable_control,
    values_of,
)
from flywheel.labeling.views import Shown
from flywheel.records import Json, Sample, is_number, same_json
from flywheel.task import Labeling

_NUMBER, _WORDS = "number", "words"


def number(
    shown: Shown,
    *,
    question: str = "",
    least: float | None = None,
    most: float | None = None,
    within: float = 0.0,
) -> Labeling:
    """Ask for a number; of several that agree the median stands for all.

    Args:
        shown: what annotators see.
        question: one line above.
        least: the smallest that there can be.
        most: the largest that there can be.
        within: up to this difference two numbers agree.

    ```python
    from flywheel.labeling import image, number

    labeling = number(image(), question="How many cells?", least=0, within=2)
    assert labeling.agree(40, 42)
    assert labeling.merge([40, 42, 41]) == 41
    ```
    """
    bounds = (-float("inf") if least is None else least, float("inf") if most is None else most)
    if not bounds[0] < bounds[1] or not is_number(within) or within < 0.0:
        raise TaskError(
            f"a number of {least} to {most} that agrees within {within!r} cannot be given. Give a "
            "least below the most, and 0 or more within"
        )
    limits = "".join(
        f' {name}="{value}"' for name, value in (("min", least), ("max", most)) if value is not None
    )
    control = f'<Number name="{_NUMBER}" toName="{shown.kind}" required="true"{limits}/>'
    return Labeling(
        config=config(shown, _beside(control, shown), question),
        data=shown.data,
        accepts=shown.accepts,
        result=partial(_result_of_number, shown, bounds),
        answer=partial(_answer_of_number, bounds),
        agree=partial(_near, within),
        merge=_median,
    )


def free_text(
    shown: Shown, *, question: str = "", lines: int = 1, required: bool = True
) -> Labeling:
    """Ask for text; texts of the same words agree, whatever the spaces between them.

    Args:
        shown: what annotators see.
        question: one line above.
        lines: of the field that it is written into.
        required: whether there must be a word; else nothing written is an answer, too: "".

    ```python
    from flywheel.labeling import free_text, image

    labeling = free_text(image(), question="What does the plate say?")
    assert labeling.agree("B  AB 12", "B AB 12")
    ```
    """
    control = (
        f'<TextArea name="{_WORDS}" toName="{shown.kind}" required="{str(required).lower()}" '
        f'rows="{lines}" maxSubmissions="1" editable="true"/>'
    )
    return Labeling(
        config=config(shown, _beside(control, shown), question),
        data=shown.data,
        accepts=shown.accepts,
        result=partial(_result_of_text, shown),
        answer=partial(_answer_of_text, required),
        empty_is_answer=not required,
        agree=_same_words,
        merge=_most_common,
    )


def _beside(control: str, shown: Shown) -> list[str]:
    return [control, unusable_control(shown)] if shown.can_be_unusable else [control]


def _region(control: str, kind: str, shown: Shown, value: dict[str, Json]) -> list[dict[str, Json]]:
    region = {"id": control, "type": kind, "from_name": control, "to_name": shown.kind}
    return [{**region, "value": value}]


def _result_of_number(
    shown: Shown, bounds: tuple[float, float], answer: Json, _: Sample
) -> list[dict[str, Json]]:
    """The nearest number that an annotator could give, for a model that answers beyond."""
    if not is_number(answer):
        raise AnnotationError(f"{answer!r:.60} is no number. Let the model answer with one")
    nearest = min(max(answer, bounds[0]), bounds[1])
    return _region(_NUMBER, "number", shown, {"number": nearest})


def _answer_of_number(
    bounds: tuple[float, float], result: Sequence[Mapping[str, Json]], _: Sample
) -> float:
    wanted = f"a number of {bounds[0]:g} to {bounds[1]:g}"
    check_usable(result, wanted)
    found = [value.get("number") for value in values_of(result, _NUMBER)]
    answer = found[0] if len(found) == 1 else None
    if not is_number(answer) or not bounds[0] <= answer <= bounds[1]:
        raise AnnotationError(f"an annotation has the numbers {found!r:.60}. Give {wanted}")
    return answer


def _near(within: float, one: Json, other: Json) -> bool:
    if not is_number(one) or not is_number(other):
        return same_json(one, other)
    return bool(one == other or abs(one - other) <= within)


def _median(answers: Sequence[Json]) -> Json:
    return answers[0] if len(answers) == 1 else median(answers)


def _result_of_text(shown: Shown, answer: Json, _: Sample) -> list[dict[str, Json]]:
    if not isinstance(answer, str):
        raise AnnotationError(f"{answer!r:.60} is no text. Let the model answer with a string")
    return _region(_WORDS, "textarea", shown, {"text": [answer]}) if answer.strip() else []


def _answer_of_text(required: bool, result: Sequence[Mapping[str, Json]], _: Sample) -> str:
    check_usable(result, "text")
    found = [one for value in values_of(result, _WORDS) for one in listed(value, "text")]
    texts = [one.strip() for one in found if isinstance(one, str) and one.strip()]
    if len(texts) > 1 or (required and not texts):
        raise AnnotationError(
            f"an annotation has {len(texts)} texts. Write {'one' if required else 'one, or none'}"
        )
    return texts[0] if texts else ""


def _same_words(one: Json, other: Json) -> bool:
    if not isinstance(one, str) or not isinstance(other, str):
        return same_json(one, other)
    return _words(one) == _words(other)


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()


def _most_common(answers: Sequence[str]) -> str:
    [(most, _)] = Counter(answers).most_common(1)
    return most


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
        accepts=shown.accepts,
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
        accepts=shown.accepts,
        result=partial(_result_of_several, shown),
        answer=partial(_answer_of_several, names, required),
        empty_is_answer=not required,
        agree=_same_set,
    )


def _result_of_one(shown: Shown, answer: Json, _: Sample) -> list[dict[str, Json]]:
    return _region(_ONE, "choices", shown, {"choices": [answer]})


def _answer_of_one(names: Sequence[str], result: Sequence[Mapping[str, Json]], _: Sample) -> str:
    found = chosen(result, _ONE)
    if len(found) == 1:
        check_usable(result, f"one of {some_of(names)}", _ONE)
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
    return _region(_SEVERAL, "choices", shown, {"choices": answer}) if answer else []


def _answer_of_several(
    names: Sequence[str], required: bool, result: Sequence[Mapping[str, Json]], _: Sample
) -> list[str]:
    found = chosen(result, _SEVERAL)
    check_usable(result, f"a list of {some_of(names)}", _SEVERAL)
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
