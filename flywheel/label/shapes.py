"""Label Studio's JSON to and from our records.

It refuses to know how the JSON travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flywheel.label.exchange import Glimpse, Item, LabelingTask, ReturnedAnnotation
from flywheel.records import Json

# Label Studio pre-fills, and orders by, the predictions of one model version only: the
# project's. One name for all nights keeps every open labeling task pre-filled and in one
# queue; the true version of the model is in data.model.
MODEL_VERSION = "flywheel"
_NOBODY = "nobody"  # whose account was deleted together with their number


def score(priority: float) -> float:
    """The place in Label Studio's queue, where the lowest score comes first."""
    return min(max(1.0 - float(priority), 0.0), 1.0)


def task_data(item: Item) -> dict[str, Json]:
    """What we write into a labeling task; the names are columns of the data manager."""
    return {"image": item.image, "sample_id": item.sample_id, "key": item.key, **item.shown}


def new_task(item: Item) -> dict[str, Json]:
    """A labeling task as it is imported; a blind one too has a score, for its place."""
    prediction = {
        "model_version": MODEL_VERSION,
        "score": score(item.priority),
        "result": item.result,
    }
    return {"data": task_data(item), "predictions": [prediction]}


def labeling_task(row: Json, people: Mapping[int, str]) -> LabelingTask:
    """One row of a listing with its annotations; `people` are e-mails by number."""
    return LabelingTask(
        external_id=row["id"],
        key=_key(row["data"]),
        is_finished=row["is_labeled"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        annotations=tuple(_annotation(annotation, people) for annotation in row["annotations"]),
    )


def glimpse(row: Json) -> Glimpse:
    """One row of a listing without annotations."""
    return Glimpse(
        external_id=row["id"],
        key=_key(row["data"]),
        data=row["data"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        is_begun=bool(
            row["total_annotations"] or row["cancelled_annotations"] or row["draft_exists"]
        ),
        is_finished=row["is_labeled"],
        people=row["overlap"],
    )


def _key(data: Json) -> str | None:
    """What was sent before there were keys has only its sample's id."""
    key = data.get("key", data.get("sample_id"))
    return key if isinstance(key, str) else None


def _annotation(row: Json, people: Mapping[int, str]) -> ReturnedAnnotation:
    # A server that starts again from nothing counts from 1 again, so the time joins the id.
    created = datetime.fromisoformat(row["created_at"])
    number = row["completed_by"]
    return ReturnedAnnotation(
        id=f"{row['project']}-{row['id']}-{created:%Y%m%dT%H%M%S.%f}",
        annotator=_NOBODY if number is None else people.get(number, str(number)),
        result=row["result"] or [],
        skipped=row["was_cancelled"],
        lead_time_seconds=row["lead_time"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )
