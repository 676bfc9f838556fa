"""What each function of a task must return, as checks of `flywheel.calls`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flywheel.batches import is_list, is_tensor, num_rows, tensors_of
from flywheel.calls import Check, is_json
from flywheel.records import Answer, Media

_NAME = re.compile(r"[A-Za-z_]\w{0,49}", re.ASCII)
"""what can stand behind the $ of a labeling config, and in the name of a file"""


def _rows(found: Any, given: tuple[Any, ...]) -> str:
    number = len(given[0])
    if is_list(found):
        return "" if len(found) == number else f"a list with an item for each, {number} in all"
    tensors = list(tensors_of(found))
    is_so = bool(tensors) and all(tuple(one.shape[:1]) == (number,) for one in tensors)
    return "" if is_so else f"a tensor with one row for each, {number} in all"


def _losses(found: Any, given: tuple[Any, ...]) -> str:
    number = num_rows(given[1])
    is_so = is_tensor(found) and tuple(found.shape) == (number,)
    return "" if is_so else f"one number for each row, a tensor of shape ({number},)"


def _answers(found: Any, _: tuple[Any, ...]) -> str:
    is_so = isinstance(found, list) and all(isinstance(one, Answer) for one in found)
    return "" if is_so else "a list of flywheel.records.Answer, one for each row"


def _scores(found: Any, _: tuple[Any, ...]) -> str:
    is_so = isinstance(found, dict) and all(hasattr(one, "__float__") for one in found.values())
    return "" if is_so else "a dict of numbers, by the name of each score"


def truth(found: Any, _: tuple[Any, ...]) -> str:
    """A function of a yes or no."""
    is_so = isinstance(found, bool) or (hasattr(found, "dtype") and not getattr(found, "ndim", 0))
    return "" if is_so else "True or False"


def _merged(found: Any, _: tuple[Any, ...]) -> str:
    return "" if found is not None and is_json(found) else "an answer, as JSON"


def _examples(found: Any, _: tuple[Any, ...]) -> str:
    return (
        ""
        if all(hasattr(one, "sample") and hasattr(one, "split") for one in found)
        else "Examples, each with a label"
    )


def _network(found: Any, _: tuple[Any, ...]) -> str:
    return "" if hasattr(found, "state_dict") else "a torch.nn.Module"


def _same_shape(found: Any, given: tuple[Any, ...]) -> str:
    ours = [tuple(one.shape) for one in tensors_of(given[0])]
    is_so = [tuple(one.shape) for one in tensors_of(found)] == ours
    return (
        "" if is_so else f"a tensor of shape {' and '.join(map(str, ours))}, that of its argument"
    )


def _batch(found: Any, _: tuple[Any, ...]) -> str:
    return "" if next(tensors_of(found), None) is not None else "a tensor, or a dict of tensors"


def _picture(found: Any, _: tuple[Any, ...]) -> str:
    return "" if isinstance(found, bytes) else "the bytes of a PNG"


def _shown(found: Any, _: tuple[Any, ...]) -> str:
    if not isinstance(found, Mapping) or not found:
        return "a dict of the values of the config's $names"
    for name, value in found.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return f"names of letters, digits and _, as the config's $names are; {name!r} is not"
        if not isinstance(value, Media) and not is_json(value):
            return f"JSON or flywheel.Media as {name!r}, not {type(value).__name__}"
        if isinstance(value, Media) and not isinstance(value.payload, bytes):
            return f"bytes in the Media {name!r}, not {type(value.payload).__name__}"
    return ""


def _regions(found: Any, _: tuple[Any, ...]) -> str:
    return "" if isinstance(found, list) else "a list of regions"


def predictor(found: Any, _: tuple[Any, ...]) -> str:
    """What fitting a baseline returns."""
    return "" if callable(found) else "a function, samples -> answers"


def anything(_found: Any, _: tuple[Any, ...]) -> str:
    """What is looked at elsewhere."""
    return ""


OF_TASK: Mapping[str, Check] = MappingProxyType(
    {
        "model": _network,
        "inputs": _rows,
        "collate": _batch,
        "targets": _rows,
        "loss": _losses,
        "answers": _answers,
        "scores": _scores,
        "agree": truth,
        "merge": _merged,
        "start_data": _examples,
        "augment": _same_shape,
        "loss_not": _losses,
        "drawing": _picture,
        "accepts": anything,
        "embed": anything,
    }
)
"""function of a Task -> what it must return"""

OF_LABELING: Mapping[str, Check] = MappingProxyType(
    {
        "data": _shown,
        "result": _regions,
        "answer": anything,
        "agree": truth,
        "merge": _merged,
        "drawing": _picture,
        "accepts": anything,
    }
)
"""function of a Labeling -> what it must return"""
