"""Task: all that a user writes. A frozen bundle of plain functions, nothing to inherit from.

The bundled tasks import nothing that a stranger could not import too; `flywheel check` runs
the laws of this contract (flywheel/checks.py) on any of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import SettingsError, TaskError
from flywheel.records import Answer, Json, Sample, Split

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labeled sample of the data that a project begins with."""

    sample: Sample
    answer: Json
    split: Split
    """TEST examples are held out: never trained on, never sent as traffic"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeling:
    """How Label Studio shows a sample and how an answer is written there and read back.

    Law: `answer(result(a)) == a` for every answer `a` that the model can give.
    """

    config: str
    """Label Studio's XML labeling config; it shows the picture as $image"""
    picture: Callable[[Sample], bytes]
    """PNG that a person looks at"""
    result: Callable[[Json], list[dict[str, Json]]]
    """answer -> Label Studio result, used as the pre-annotation"""
    answer: Callable[[list[dict[str, Json]]], Json]
    """Label Studio result -> answer; raises AnnotationError when it is not one"""


Predictor = Callable[[Sequence[Sample]], list[Json]]
"""samples -> one answer each"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Something simpler that the model has to beat."""

    kind: str
    """scripted, or simple ML"""
    fit: Callable[[Sequence[Sample], Sequence[Json]], Predictor]
    """training samples and their answers -> predictor; a scripted one ignores them"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What flywheel needs to know of a problem. B is the batch size."""

    model: Callable[[], torch.nn.Module]
    """a fresh network, weights drawn from torch's seeded generator"""
    inputs: Callable[[Sequence[Sample]], torch.Tensor]
    """samples -> (B, ...) float32; raises PayloadError for a sample that cannot be read"""
    targets: Callable[[Sequence[Json]], torch.Tensor]
    """answers -> (B, ...), what the loss compares with"""
    loss: Callable[[Any, torch.Tensor], torch.Tensor]
    """model output, targets -> (B,), one loss a sample, so that samples can be weighted"""
    answers: Callable[[Any], list[Answer]]
    """model output -> B answers"""
    scores: Callable[[Json, Json], dict[str, float]]
    """answer, label -> per-sample numbers, units in their names: correct, error_deg, error_cm"""
    labeling: Labeling
    start_data: Callable[[], Iterable[Example]] | None = None
    """the labeled data that the first model is trained on"""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    slices: Mapping[str, Callable[[Sample], bool]] = field(default_factory=dict)
    """named parts of production that are watched one by one"""
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None
    """(B, ...) -> (B, ...), random variation of training inputs"""


def load_function(path: str, directory: Path) -> Callable[..., Any]:
    """The function that `module:function` names, looked up in the project's directory first.

    Raises:
        SettingsError: the text is not of that form, or there is no such module or function.
    """
    module_name, _, function_name = path.partition(":")
    if not all(module_name.split(".")) or not function_name:
        raise SettingsError(f"{path!r} is not of the form module:function, such as my_task:task")
    _forget_namesake(module_name, directory)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    sys.path.insert(0, str(directory))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{path!r}: cannot import {error.name!r}; "
            f"put {str(error.name).split('.')[0]}.py into {directory} or install its package"
        ) from error
    finally:
        sys.path.remove(str(directory))
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise SettingsError(
            f"{path!r}: {module_name} has no function {function_name!r}; "
            f"it has {', '.join(names) or 'none'}"
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow to a signature


def _forget_namesake(module_name: str, directory: Path) -> None:
    """Two projects may both have a my_task.py: drop the one of the other directory."""
    top = module_name.split(".", maxsplit=1)[0]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    own = [directory / f"{top}.py", directory / top / "__init__.py"]
    if loaded is not None and any(path.exists() for path in own) and Path(loaded) not in own:
        for name in [name for name in sys.modules if name.split(".")[0] == top]:
            del sys.modules[name]


def load_task(path: str, directory: Path) -> Task:
    """The task that `module:function` returns.

    Raises:
        SettingsError: see `load_function`.
        TaskError: the function returns something else than a Task.
    """
    task = load_function(path, directory)()
    if not isinstance(task, Task):
        raise TaskError(
            f"{path} returned {type(task).__name__}, not a flywheel.Task; end it in return Task(...)"
        )
    return task
