"""Through here goes every call of a function that a user wrote: a task's, and its network's.

Whatever it raises, an exit included, becomes one TaskError: which function, on which sample or
answers, the line of the user's file, and what to do. What it returns is held against what its caller
needs, so that a wrong shape does not surface as an error of torch three steps later.
"""

from __future__ import annotations

import functools
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel.errors import FlywheelError, PayloadError, TaskError
from flywheel.faults import describe_fault
from flywheel.records import Json, Sample, canonical

Check = Callable[[Any, tuple[Any, ...]], str]
"""what a function returned, and its arguments -> what it should return; "" when it did"""

_IS_GUARDED = "_is_guarded"
_SHOWN = 60
_LIBRARIES = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib")}
_OURS = Path(__file__).parent


def copied(value: Any) -> Any:
    """A copy of JSON or of samples that can be changed without changing the original."""
    if isinstance(value, Sample):
        return replace(value, metadata=copied(value.metadata))
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(inner) for inner in value)
    return value


def guard(
    name: str,
    function: Any,
    check: Check,
    *,
    apart: bool = False,
    each: bool = False,
    then: Callable[[Any], Any] | None = None,
) -> Any:
    """The function as the product calls it; a guarded one, or None, stays as it is.

    Args:
        name: how messages name it, such as labeling.picture of the task.
        function: the user's.
        check: says what is wrong with a result.
        apart: it works on copies, so that what it changes no other function sees.
        each: its argument is a list, of which the one that it fails on is looked for.
        then: what becomes of the result.
    """
    if function is None or hasattr(function, _IS_GUARDED):
        return function

    # A class hands its own attributes on otherwise: a network's `forward` is none of this function's.
    @functools.wraps(function, updated=())
    def call(*given: Any, **named: Any) -> Any:
        try:
            if apart:
                found = function(
                    *map(copied, given), **{key: copied(one) for key, one in named.items()}
                )
            else:
                found = function(*given, **named)
            found = then(found) if then is not None else found
        except (Exception, SystemExit) as error:
            if each and len(given[0]) > 1:
                _blame_one(call, given[0])
            if isinstance(error, FlywheelError):
                raise
            raise _broken(name, function, error, given) from error
        wanted = check(found, given)
        if wanted:
            raise TaskError(
                f"{name} returned {_short(found)}{_subject(given)}. Return {wanted}; flywheel check "
                "tests this"
            )
        return found

    setattr(call, _IS_GUARDED, True)
    return call


def unguarded(function: Any) -> Any:
    """The user's function itself."""
    return function.__wrapped__ if hasattr(function, _IS_GUARDED) else function


@contextmanager
def blamed(name: str, function: Any) -> Iterator[None]:
    """Name the user's function that what happens inside runs, for what is called by torch.

    Raises:
        TaskError: it raised something that is none of our errors.
    """
    try:
        yield
    except FlywheelError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(name, function, error, ()) from error


def _blame_one(call: Any, many: Sequence[Any]) -> None:
    """Raise the error of the one item that a function fails on alone, if there is such a one."""
    half = len(many) // 2
    for part in (many[:half], many[half:]):
        try:
            call(part)
        except PayloadError as error:
            if len(part) > 1:
                raise  # it names the sample
            name = part[0].id[:12] if isinstance(part[0], Sample) else _short(part[0])
            raise PayloadError(f"sample {name} cannot be read: {error}") from error


def _broken(name: str, function: Any, error: BaseException, given: tuple[Any, ...]) -> TaskError:
    fault = describe_fault(error, _folders(function, error))
    if isinstance(error, SystemExit):
        fault = f"{fault}, which would have ended the program"
    return TaskError(f"{name} fails{_subject(given)}: {fault}. Fix it, then run flywheel check")


def _folders(function: Any, error: BaseException) -> list[Path]:
    """The folders of the user's code that the error came through, else that of the function."""
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    found = [file.parent for file in frames if _is_users(file)]
    own = inspect.unwrap(function)
    code = getattr(getattr(own, "forward", own), "__code__", None)
    return found or ([Path(code.co_filename).parent] if code is not None else [])


def _is_users(file: Path) -> bool:
    if "site-packages" in file.parts or str(file).startswith("<") or file.is_relative_to(_OURS):
        return False
    return not any(file.is_relative_to(library) for library in _LIBRARIES)


def _subject(given: tuple[Any, ...]) -> str:
    """` on sample 1f2e...`, or on which answers; "" for tensors, which say nothing to a reader."""
    if any(isinstance(one, (list, tuple)) and not one for one in given):
        return ""
    if given and isinstance(given[0], (list, tuple)) and isinstance(given[0][0], Sample):
        given = (given[0],)  # a baseline is fitted on samples and their answers
    if len(given) == 1 and isinstance(given[0], (list, tuple)):
        many = given[0]
        if len(many) != 1:
            kind = "samples" if isinstance(many[0], Sample) else "answers"
            return f" on {len(many)} {kind} together"
        given = (many[0],)
    for one in given:
        if isinstance(one, Sample):
            return f" on sample {one.id[:12]}"
    if given and all(isinstance(one, (str, int, float, list, dict)) for one in given):
        return f" on {' and '.join(_short(one) for one in given)}"
    return ""


def _short(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def is_json(value: Json) -> bool:
    """Whether a value can be stored as JSON."""
    try:
        canonical(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
