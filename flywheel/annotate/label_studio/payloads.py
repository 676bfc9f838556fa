"""Converts Label Studio's JSON to and from the records of `flywheel.annotate.backend`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flywheel.annotate.backend import (
    InventoryRow,
    LabelingTask,
    NewLabelingTask,
    ReturnedAnnotation,
    task_data,
)
from flywheel.records import Json

# Label Studio pre-fills, and orders by, the predictions of one model version only: the
# project's. One name for all nights keeps every open labeling task pre-filled and in one
# queue; the true version of the model is in data.model.
MODEL_VERSION = "flywheel"
_NOBODY = "nobody"  # the annotator of an annotation whose account was deleted


def score(priority: float) -> float:
    """Return the score of a prediction; Label Studio shows the lowest score first."""
    return min(max(1.0 - float(priority), 0.0), 1.0)


def task_payload(item: NewLabelingTask) -> dict[str, Json]:
    """Return a labeling task as JSON for the import; blind ones have a prediction too, for its score."""
    prediction = {
        "model_version": MODEL_VERSION,
        "score": score(item.priority),
        "result": item.result,
    }
    return {"data": task_data(item), "predictions": [prediction]}


def labeling_task(row: Json, annotators: Mapping[int, str]) -> LabelingTask:
    """Parse a row of a listing with annotations; `annotators` is user number -> e-mail."""
    return LabelingTask(
        external_id=row["id"],
        key=_key(row["data"]),
        is_finished=row["is_labeled"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        annotations=tuple(_annotation(annotation, annotators) for annotation in row["annotations"]),
    )


def inventory_row(row: Json) -> InventoryRow:
    """Parse a row of a listing without annotations."""
    return InventoryRow(
        external_id=row["id"],
        key=_key(row["data"]),
        data=row["data"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        is_begun=bool(
            row["total_annotations"] or row["cancelled_annotations"] or row["draft_exists"]
        ),
        is_finished=row["is_labeled"],
        num_annotators=row["overlap"],
    )


def _key(data: Json) -> str | None:
    """Return the key; labeling tasks from before there were keys have only a sample id."""
    key = data.get("key", data.get("sample_id"))
    return key if isinstance(key, str) else None


def _annotation(row: Json, annotators: Mapping[int, str]) -> ReturnedAnnotation:
    # A reset server counts from 1 again, so the creation time is part of the id.
    created = datetime.fromisoformat(row["created_at"])
    number = row["completed_by"]
    return ReturnedAnnotation(
        id=f"{row['project']}-{row['id']}-{created:%Y%m%dT%H%M%S.%f}",
        annotator=_NOBODY if number is None else annotators.get(number, str(number)),
        result=row["result"] or [],
        skipped=row["was_cancelled"],
        lead_time_seconds=row["lead_time"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )
