"""Task: all that a user writes. A frozen bundle of plain functions, nothing to inherit from.

The bundled examples import only public parts; `flywheel check` runs the laws of this contract
(flywheel/checks) on any task.
"""

from __future__ import annotations

import concurrent.futures.thread
import difflib
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flywheel import returns
from flywheel.calls import Check, guard, unguarded
from flywheel.errors import FlywheelError, SettingsError, TaskError
from flywheel.faults import describe_fault
from flywheel.records import Answer, Json, Media, Sample, Split, same_json
from flywheel.sources import Code, read_code
from flywheel.trainers.base import Trainer

if TYPE_CHECKING:
    import torch


_MOST_NAMES = 8
_THREAD_SECONDS = 1.0


_COPYING = (
    *("inputs", "targets", "scores", "agree", "merge", "drawing"),
    *("data", "result", "answer", "accepts"),
)
"""functions that work on copies: what one changes, no other sees"""
_OF_MANY = ("inputs", "targets")


def _guard(record: Any, prefix: str, checks: Mapping[str, Check]) -> None:
    """Let every call of a frozen record's functions go through `flywheel.calls`."""
    for name, check in checks.items():
        function = getattr(record, name)
        if function not in _DEFAULTS:
            called = guard(
                f"{prefix}{name} of the task",
                function,
                check,
                apart=name in _COPYING,
                each=name in _OF_MANY,
                then=list if name == "start_data" else None,
            )
            object.__setattr__(record, name, called)


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

    Both directions get the sample too: its size in pixels and its metadata, the camera's
    intrinsics for one, may be what turns regions on a picture into an answer.
    Law: `answer(result(a, s), s)` agrees with `a` for every answer `a` that the model can give.
    """

    config: str
    """Label Studio's XML labeling config"""
    data: Callable[[Sample], Mapping[str, Json | Media]]
    """the values of the config's $names: JSON as it is, and media, each of which gets an address"""
    result: Callable[[Json, Sample], list[dict[str, Json]]]
    """answer, sample -> Label Studio result, used as the pre-annotation"""
    answer: Callable[[list[dict[str, Json]], Sample], Json]
    """Label Studio result, sample -> answer; raises AnnotationError when it is not one"""
    empty_is_answer: bool = False
    """whether a result without any region is an answer, as of a detector where no object is seen;
    else it is refused as an annotation that was submitted by mistake"""
    agree: Callable[[Json, Json], bool] | None = None
    """see `Task.agree`; this and the next three are those of a task that has none of its own"""
    merge: Callable[[Sequence[Json]], Json] | None = None
    drawing: Callable[[Sample, Json | None, Json | None], bytes] | None = None
    accepts: Callable[[Sample], None] | None = None

    def __post_init__(self) -> None:
        _guard(self, "labeling.", returns.OF_LABELING)


Predictor = Callable[[Sequence[Sample]], list[Json]]
"""samples -> one answer each"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Something simpler that the model has to beat."""

    kind: str
    """scripted, or simple ML"""
    fit: Callable[[Sequence[Sample], Sequence[Json]], Predictor]
    """training samples and their answers -> predictor; a scripted one ignores them"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fit", _fitting("a baseline of the task", self.fit))


def _fitting(name: str, fit: Any) -> Any:
    """A baseline's fit, which it and the predictor that it returns are called through."""

    def predictor(found: Any) -> Any:
        return guard(name, found, returns.anything, then=list)

    return guard(name, fit, returns.predictor, apart=True, then=predictor)


def _first(answers: Sequence[Json]) -> Json:
    return answers[0]


def _themselves(given: Sequence[Any]) -> list[Any]:
    """What a trainer of one's own gets: samples and answers as they are."""
    return list(given)


def _of_torch(*_: Any) -> Any:
    raise TaskError(
        "the task has a network and no inputs, targets, loss or answers. Write them, or give a "
        "trainer as its model"
    )


_DEFAULTS = (same_json, _first, _themselves, _of_torch)
_TORCH_ONLY = ("inputs", "targets", "loss", "answers", "augment", "loss_not", "collate")
"""fields of a network; a trainer brings what it needs itself"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What flywheel needs to know of a problem. B is the batch size.

    The model is a network of torch with `inputs`, `targets`, `loss` and `answers`, or a trainer of
    one's own, see `flywheel.trainers`, which needs none of these.
    """

    model: Callable[[], torch.nn.Module] | Trainer
    """a fresh network, weights drawn from torch's seeded generator; or a trainer"""
    scores: Callable[[Json, Json], dict[str, float]]
    """answer, label -> per-sample numbers, units in their names: correct, error_deg, error_cm;
    `flywheel.scoring` has ready-made ones"""
    labeling: Labeling
    inputs: Callable[[Sequence[Sample]], Any] = _themselves
    """samples -> (B, ...) float32, or a tree of such tensors: what the network is called with; raises
    PayloadError for a sample that cannot be read. With `collate`, a list of one item a sample"""
    collate: Callable[[list[Any]], Any] | None = None
    """items of a batch -> its tensor or tree of tensors, for inputs whose sizes differ, such as texts"""
    targets: Callable[[Sequence[Json]], Any] = _themselves
    """answers -> (B, ...), what the loss compares with; or a list of one item an answer, for labels
    whose sizes differ, such as boxes"""
    loss: Callable[[Any, Any], torch.Tensor] = _of_torch
    """model output, targets -> (B,), one loss a sample, so that samples can be weighted"""
    answers: Callable[[Any], list[Answer]] = _of_torch
    """model output -> B answers"""
    agree: Callable[[Json, Json], bool] = same_json
    """whether two answers are the same as far as annotators can see: two poses a hair apart are;
    by default equal JSON, to which 1 and 1.0 are not the same, and the order of keys is nothing"""
    merge: Callable[[Sequence[Json]], Json] = _first
    """answers that agree, oldest first -> the one that stands for them, such as their mean"""
    start_data: Callable[[], Iterable[Example]] | None = None
    """the labeled data that the first model is trained on"""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    slices: Mapping[str, Callable[[Sample], bool]] = field(default_factory=dict)
    """named parts of production that are watched one by one"""
    augment: Callable[[Any, torch.Generator], Any] | None = None
    """(B, ...) -> (B, ...), random variation of training inputs"""
    loss_not: Callable[[Any, Any], torch.Tensor] | None = None
    """model output, targets of answers that failed -> (B,), a loss for giving these answers:
    `flywheel.recipes.not_this_class` for classes. With it a failed outcome trains, else it only chooses
    what is labeled, which was worth more on digits' long tail"""
    drawing: Callable[[Sample, Json | None, Json | None], bytes] | None = None
    """sample, answer, label -> PNG with both drawn over it, None where not known; reports show it
    in place of the labeling's data, so that annotators see what is wrong with an answer"""
    accepts: Callable[[Sample], None] | None = None
    """raises PayloadError for a sample that the model server must not answer, such as a row without a
    field; asked at its door alone, so that nights still read what was answered before"""
    embed: Callable[[Sequence[Sample]], Any] | None = None
    """samples -> (N, D), where each lies among the others: of predictions that a server of one's own
    logged without an embedding; None: the champion embeds them"""
    code: Code | None = field(default=None, repr=False)
    """the source that it was loaded from; `load_task` sets it"""

    @property
    def trainer(self) -> Trainer | None:
        """The trainer of one's own; None: the model is a network."""
        own = self.model
        return own if isinstance(own, Trainer) and not isinstance(own, type) else None

    @property
    def network(self) -> Callable[[], torch.nn.Module]:
        """What makes a fresh network.

        Raises:
            TaskError: the task has a trainer of its own.
        """
        if self.trainer is not None:
            raise TaskError(f"{self.trainer!r} is a trainer, which has no network to look into")
        return self.model  # type: ignore[return-value]  # a trainer is the other kind

    def batched(self, inputs: Any) -> Any:
        """What the network is called with for inputs of some samples: a tensor, or a tree of tensors."""
        return inputs if self.collate is None else self.collate(list(inputs))

    def __post_init__(self) -> None:
        both = (("agree", same_json), ("merge", _first), ("drawing", None), ("accepts", None))
        for name, unset in both:
            given = getattr(self.labeling, name, None)
            if given is not None and getattr(self, name) is unset:
                object.__setattr__(self, name, given)
        _check_kind(self)
        own = {"model"} if self.trainer is not None else set()
        _guard(self, "", {name: one for name, one in returns.OF_TASK.items() if name not in own})
        slices = {
            name: guard(f"slice {name!r} of the task", belongs, returns.truth, apart=True)
            for name, belongs in self.slices.items()
        }
        baselines = {
            name: replace(one, fit=_fitting(f"baseline {name!r} of the task", unguarded(one.fit)))
            for name, one in self.baselines.items()
        }
        object.__setattr__(self, "slices", slices)
        object.__setattr__(self, "baselines", baselines)


def _check_kind(task: Task) -> None:
    """Raise for a task that is neither of a network nor of a trainer."""
    given = [name for name in _TORCH_ONLY if getattr(task, name) not in (*_DEFAULTS, None)]
    if task.trainer is not None and given:
        raise TaskError(
            f"the task's model is a trainer, and {', '.join(given)} would never be called. Remove "
            "them, or give a network as the model"
        )
    missing = [name for name in _TORCH_ONLY[:4] if name not in given]
    if task.trainer is None and missing:
        raise TaskError(
            f"the task's model is a network, which needs {', '.join(missing)} too. Write them, or "
            "give a trainer as the model: flywheel.trainers has some"
        )


def load_function(path: str, directory: Path) -> Callable[..., Any]:
    """The function that `module:function` names, looked up in the project's directory first.

    Raises:
        SettingsError: the text is not of that form, there is no such module or function, or
            the module cannot be imported; the message has its file and line.
    """
    module_name, _, function_name = path.partition(":")
    if not all(module_name.split(".")) or not function_name:
        raise SettingsError(f"{path!r} is not of the form module:function, such as my_task:task")
    module = _load_module(path, module_name, directory)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise SettingsError(
            f"{path!r}: {module_name} has no function {function_name!r}; "
            f"{_functions(module, function_name)}"
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow to a signature


def _load_module(path: str, module_name: str, directory: Path) -> ModuleType:
    _forget_namesake(module_name, directory)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{path!r}: cannot import {error.name!r}; "
            f"put {str(error.name).split('.')[0]}.py into {directory} or install its package"
        ) from error
    except FlywheelError:
        raise  # it says already what to do
    except (Exception, SystemExit) as error:
        fault = describe_fault(error, [directory])
        name = "" if fault.startswith(module_name.split(".", maxsplit=1)[0]) else f"{path!r}: "
        raise SettingsError(f"{name}{fault}; fix it, then run flywheel check") from error
    finally:
        if str(directory) in sys.path:  # the module may have changed the path itself
            sys.path.remove(str(directory))


def _functions(module: ModuleType, wanted: str) -> str:
    """The nearest name, and what the module defines itself; imported names are not meant."""
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    nearest = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{hint}it has {', '.join(names[:_MOST_NAMES]) or 'none'}{more}"


def _forget_namesake(module_name: str, directory: Path) -> None:
    """Two projects may both have a my_task.py: drop the one of the other directory."""
    top = module_name.split(".", maxsplit=1)[0]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    own = [path.absolute() for path in (directory / f"{top}.py", directory / top / "__init__.py")]
    if loaded is not None and any(path.exists() for path in own) and Path(loaded) not in own:
        for name in [name for name in sys.modules if name.split(".")[0] == top]:
            del sys.modules[name]


def call_maker(make: Callable[..., Any], directory: Path) -> Any:
    """What a function that makes a task returns; one with an argument gets the project's directory."""
    return make(directory.absolute()) if inspect.signature(make).parameters else make()


def load_task(path: str, directory: Path) -> Task:
    """The task that `module:function` returns.

    Raises:
        SettingsError: see `load_function`.
        TaskError: the function raises, returns something else than a Task, or leaves a thread that
            does not end.
    """
    before = set(threading.enumerate())
    make = load_function(path, directory)
    try:
        task = call_maker(make, directory)
    except FlywheelError:
        raise  # it says already what to do
    except (Exception, SystemExit) as error:
        fault = describe_fault(error, [directory])
        raise TaskError(f"{path} raised {fault}; fix it, then run flywheel check") from error
    if not isinstance(task, Task):
        raise TaskError(
            f"{path} returned {type(task).__name__}, not a flywheel.Task; end it in return Task(...)"
        )
    _check_threads(path, before)
    return replace(task, code=read_code(path, directory.absolute()))


def _check_threads(path: str, before: set[threading.Thread]) -> None:
    """Raise for threads that the task began and that would keep every command from ending."""
    pooled = getattr(concurrent.futures.thread, "_threads_queues", {})  # they end with the program
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon and thread not in pooled:
            thread.join(_THREAD_SECONDS)
            if thread.is_alive():
                raise TaskError(
                    f"{path} began the thread {thread.name!r}, for which every command would wait at "
                    "its end. Begin it with daemon=True"
                )
