"""What people are shown of a sample: its picture, the model's answer, and why it was chosen.

It refuses to know the ledger and Label Studio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from flywheel.errors import TaskError, UserError
from flywheel.faults import UNREADABLE
from flywheel.label.client import misfits
from flywheel.label.exchange import Item
from flywheel.label.pictures import check_picture
from flywheel.label.queue import place
from flywheel.label.shapes import new_task
from flywheel.ledger.outbox import Waiting
from flywheel.project import Project
from flywheel.records import Json, Sample
from flywheel.task import Task

_T = TypeVar("_T")


def picture_of(sample: Sample, task: Task) -> bytes:
    """The picture that people see, a whole one.

    Raises:
        UserError: there is none, and why.
    """
    picture = _of_task("picture", lambda: task.labeling.picture(sample))
    check_picture(sample.id, picture)
    return picture


def pre_annotation_of(row: Waiting, sample: Sample, task: Task) -> list[dict[str, Json]]:
    """The model's answer as people see it; nothing when they are asked blind.

    Raises:
        UserError: the task cannot show it, and why.
    """
    if row.model_digest is None or not row.shown:
        return []
    return _of_task("result", lambda: task.labeling.result(row.answer, sample))


def item_of(
    row: Waiting, image: str, result: list[dict[str, Json]], project: Project, now: datetime
) -> Item:
    """All of it, for the labeling task."""
    shown: dict[str, Json] = {}
    if row.shown and row.confidence is not None and row.model_digest is not None:
        shown = {
            "reason": row.reason,
            "confidence": round(float(row.confidence), 4),
            "model": row.model_digest[:12],
        }
    return Item(
        key=str(row.key),
        sample_id=row.sample_id,
        image=image,
        result=result,
        priority=place(row.priority, row.created_at, now, project.labeling.ageing_nights),
        people=row.people,
        shown=shown,
    )


def misfit(item: Item, task: Task) -> str | None:
    """Why a pre-annotation cannot be shown, and what to do; None when it can."""
    prediction = new_task(item)["predictions"][0]
    faults = misfits(task.labeling.config, prediction) if item.result else []
    if not faults:
        return None
    return (
        f"does not fit the labeling config ({'; '.join(faults)}), so people are asked without it; "
        "where the model still gives such answers, mend labeling.result of the task"
    )


def blinded(item: Item) -> Item:
    """The same without anything of the model."""
    return replace(item, result=[], shown={})


def _of_task(name: str, call: Callable[[], _T]) -> _T:
    """What a function of the task gives; whatever it raises becomes an error that says so."""
    try:
        return call()
    except UserError:
        raise
    except UNREADABLE as error:
        raise TaskError(
            f"labeling.{name} of the task fails on it ({type(error).__name__}: {error}); mend it, "
            "or let it raise PayloadError or AnnotationError"
        ) from error
