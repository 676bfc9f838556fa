"""Whether a sample and an answer fit a task: each question as one sentence, "" where they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flywheel.faults import UNREADABLE, describe_fault
from flywheel.records import Json, Sample
from flywheel.task import Task

# torch raises RuntimeError for targets of the wrong shape.
_NO_ANSWER = (*UNREADABLE, RuntimeError)


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
    except _NO_ANSWER as error:
        return describe_fault(error, [folder])
    return "" if agrees else "agree() of the task says that it differs from itself"
