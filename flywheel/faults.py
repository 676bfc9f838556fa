"""What comes out of the user's own code: which exceptions, and one line that says where to mend it.

A traceback names thirty lines of torch and of flywheel; the one that the user can change is the
last one of theirs. Knows nothing of tasks: whoever calls says which folders are the user's.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

from flywheel.errors import UserError

UNREADABLE = (UserError, LookupError, TypeError, ValueError, AttributeError)
"""what a function of a task may raise when it is given what is no answer of the task"""

_SELF_EXPLAINING = (RuntimeError, ValueError)  # what torch and numpy raise with a whole sentence


def tell_fault(error: Exception, folders: Iterable[Path]) -> str:
    """`my_task.py:57: KeyError: 'lens'`; without a place when no line of these folders is in it."""
    lines = str(error.msg if isinstance(error, SyntaxError) else error).splitlines()
    said = lines[0] if lines else ""
    if not said:
        said = type(error).__name__
    elif not isinstance(error, SyntaxError) and type(error) not in _SELF_EXPLAINING:
        said = f"{type(error).__name__}: {said}"
    place = _place(error, list(folders))
    return f"{place}: {said}" if place else said


def _place(error: Exception, folders: list[Path]) -> str | None:
    """The innermost line in one of the folders; what is installed below them does not count."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    for file, number in reversed(lines):
        for folder in folders:
            path = Path(file)
            if path.is_relative_to(folder):
                name = path.relative_to(folder)
                if "site-packages" not in name.parts:
                    return f"{name}:{number}" if number else str(name)
    return None
