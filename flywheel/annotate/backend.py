"""What passes between the ledger and Label Studio, as plain frozen records.

`LabelingBackend` is all that the label stage asks of a labeling server; `flywheel.annotate.label_studio.backend` fulfils
it. Nothing here knows HTTP or the SDK.

Label Studio's JSON to and from our records.

It refuses to know how the JSON travels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from flywheel.records import Json

BACKEND_LOCK = "the labeling backend"
"""lock in the ledger: one process at a time writes there"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLabelingTask:
    """One sample on its way to people."""

    key: str
    """of the sample in this campaign; two labeling tasks of one key are one too many"""
    sample_id: str
    image: str
    """address of the picture, as the labeler's browser asks for it"""
    result: list[dict[str, Json]]
    """the pre-annotation, in Label Studio's result format; empty when people are asked blind"""
    priority: float
    """0..1, 1 is labeled first"""
    num_annotators: int
    """annotators asked"""
    shown: dict[str, Json]
    """what else people see in the data manager: reason, confidence, model; empty when blind"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnedAnnotation:
    """One person's annotation, as Label Studio holds it now."""

    id: str
    """never given twice, even by a server that starts again from nothing"""
    annotator: str
    """e-mail of the person; their number where Label Studio no longer knows them"""
    result: list[dict[str, Json]]
    skipped: bool
    lead_time_seconds: float | None
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelingTask:
    """One labeling task with all the annotations that it has now."""

    external_id: int
    key: str | None
    """data.key, or data.sample_id where there is none; None: someone put it there by hand"""
    is_finished: bool
    """as many people as were asked have answered"""
    updated_at: datetime
    annotations: tuple[ReturnedAnnotation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InventoryRow:
    """One labeling task in brief, as a reconciliation sees it."""

    external_id: int
    key: str | None
    data: dict[str, Json]
    """what people see of it; as it is now, whoever wrote it"""
    updated_at: datetime
    is_begun: bool
    """somebody has annotated, skipped or drafted"""
    is_finished: bool
    num_annotators: int
    """annotators asked"""


class LabelingProject(NamedTuple):
    """A project in Label Studio."""

    id: int
    url: str
    """the page that people open"""


class PictureStore(Protocol):
    """How pictures get to where the labelers' browsers find them."""

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """name -> PNG bytes; name -> address for the labeling task. Safe to repeat."""


class LabelingBackend(PictureStore, Protocol):
    """What the label stage asks of a labeling server. A project that is gone holds nothing."""

    def ensure(
        self, title: str, config: str, project_id: int | None, num_annotators: int = 1
    ) -> LabelingProject:
        """The project of this id, else of this title, created or brought up to date.

        A new one asks so many people in each labeling task that says nothing else.
        """

    def page(self, project_id: int) -> str:
        """The page of a project that people open."""

    def exists(self, project_id: int) -> bool:
        """Whether the project still exists."""

    def push(self, project_id: int, items: Sequence[NewLabelingTask]) -> dict[str, int]:
        """Create the labeling tasks that are not there yet; key -> external id of all.

        Only the key says what is there: numbers may be given out again.
        """

    def changed_since(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Every labeling task that changed since then, with all its annotations."""

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        """These labeling tasks, with all their annotations; those that are gone are missing."""

    def inventory(self, project_id: int) -> Iterator[InventoryRow]:
        """Every labeling task of a project in brief."""

    def raise_overlap(self, external_id: int, num_annotators: int) -> None:
        """Raise the number of people asked in one labeling task, and open it again."""

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        """external id -> new priority; which were moved: those that nobody has begun."""

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete labeling tasks that nobody has begun; which of the given are gone now."""

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        """Write the data of a labeling task as it was sent, see `flywheel.annotate.backend.task_data`."""

    def register_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Have Label Studio tell an address of every annotation; registered once."""


# Label Studio pre-fills, and orders by, the predictions of one model version only: the
# project's. One name for all nights keeps every open labeling task pre-filled and in one
# queue; the true version of the model is in data.model.
MODEL_VERSION = "flywheel"
_NOBODY = "nobody"  # whose account was deleted together with their number


def score(priority: float) -> float:
    """The place in Label Studio's queue, where the lowest score comes first."""
    return min(max(1.0 - float(priority), 0.0), 1.0)


def task_data(item: NewLabelingTask) -> dict[str, Json]:
    """What we write into a labeling task; the names are columns of the data manager."""
    return {"image": item.image, "sample_id": item.sample_id, "key": item.key, **item.shown}


def task_payload(item: NewLabelingTask) -> dict[str, Json]:
    """A labeling task as it is imported; a blind one too has a score, for its place."""
    prediction = {
        "model_version": MODEL_VERSION,
        "score": score(item.priority),
        "result": item.result,
    }
    return {"data": task_data(item), "predictions": [prediction]}


def labeling_task(row: Json, annotators: Mapping[int, str]) -> LabelingTask:
    """One row of a listing with its annotations; `annotators` are e-mails by number."""
    return LabelingTask(
        external_id=row["id"],
        key=_key(row["data"]),
        is_finished=row["is_labeled"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        annotations=tuple(_annotation(annotation, annotators) for annotation in row["annotations"]),
    )


def inventory_row(row: Json) -> InventoryRow:
    """One row of a listing without annotations."""
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
    """What was sent before there were keys has only its sample's id."""
    key = data.get("key", data.get("sample_id"))
    return key if isinstance(key, str) else None


def _annotation(row: Json, annotators: Mapping[int, str]) -> ReturnedAnnotation:
    # A server that starts again from nothing counts from 1 again, so the time joins the id.
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
