"""Label Studio's JSON to and from our records.

It refuses to know how the JSON travels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from flywheel.label.exchange import Item, LabelingTask, ReturnedAnnotation
from flywheel.records import Json

# Label Studio pre-fills, and orders by, the predictions of one model version only: the
# project's. One name for all nights keeps every open labeling task pre-filled and in one
# queue; the true version of the model is in data.model.
MODEL_VERSION = "flywheel"
_FILES_PER_UPLOAD = 100  # Label Studio answers 500 above
_BYTES_PER_UPLOAD = 16_000_000


def prediction(item: Item) -> dict[str, Json]:
    """The pre-annotation; its score is only the place in the queue, the hardest has the lowest."""
    score = min(max(1.0 - float(item.priority), 0.0), 1.0)
    return {"model_version": MODEL_VERSION, "score": score, "result": item.result}


def new_task(item: Item, image: str) -> dict[str, Json]:
    """The names under data are what people see as columns of the data manager."""
    data = {
        "image": image,
        "sample_id": item.sample_id,
        "reason": item.reason,
        "priority": round(float(item.priority), 4),
        "confidence": round(float(item.confidence), 4),
        "model": item.model_version,
        "share": item.share.value,
        "inclusion_probability": item.inclusion_probability,
    }
    return {"data": data, "predictions": [prediction(item)]}


def uploads(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Parts that one upload can take."""
    part, size = list[Item](), 0
    for item in items:
        if part and (
            len(part) == _FILES_PER_UPLOAD or size + len(item.picture) > _BYTES_PER_UPLOAD
        ):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.picture)
    if part:
        yield part


def labeling_task(row: Json) -> LabelingTask:
    """One row of a listing with all fields."""
    sample_id = row["data"].get("sample_id")
    return LabelingTask(
        external_id=row["id"],
        sample_id=sample_id if isinstance(sample_id, str) else None,
        is_finished=row["is_labeled"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        annotations=tuple(_annotation(annotation) for annotation in row["annotations"]),
    )


def _annotation(row: Json) -> ReturnedAnnotation:
    # A server that starts again from nothing counts from 1 again, so the time joins the id.
    created = datetime.fromisoformat(row["created_at"])
    by = row["completed_by"]
    return ReturnedAnnotation(
        id=f"{row['project']}-{row['id']}-{created:%Y%m%dT%H%M%S.%f}",
        annotator=str(by["id"] if isinstance(by, dict) else by),
        result=row["result"] or [],
        skipped=row["was_cancelled"],
        lead_time_seconds=row["lead_time"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )
