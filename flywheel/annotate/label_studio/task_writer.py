"""Labeling tasks to and from JSON; created exactly once, and deleted while they are not begun.

A labeling task is identified by data.key alone: on SQLite, ids are reused once the newest labeling
tasks are deleted. So the keys are looked up before anything is created, and again after every lost
response.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from flywheel.annotate.backend import (
    InventoryRow,
    LabelingTask,
    NewLabelingTask,
    ReturnedAnnotation,
    task_data,
)
from flywheel.annotate.label_studio.client import (
    Client,
    GoneError,
    TooLargeError,
    condition,
)
from flywheel.errors import RefusedError, UnavailableError
from flywheel.records import Json

# Label Studio pre-fills, and orders by, the predictions of one model version only: the
# project's. One name for all nights keeps every open labeling task pre-filled and in one
# queue; the true version of the model is in data.model.
MODEL_VERSION = "flywheel"
_SAME_SAVE = timedelta(milliseconds=10)
"""between the times of creation and of change that one save writes"""
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
        data=row["data"],
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


def answers_for(row: Json) -> int | None:
    """The number of the user who answers for an annotation: who changed it last, else its author.

    The user who saved it first counts as an editor too in Label Studio, and may have imported it
    for its author.
    """
    created, updated = (datetime.fromisoformat(row[name]) for name in ("created_at", "updated_at"))
    editor: int | None = row.get("updated_by")
    author: int | None = row["completed_by"]
    return author if editor is None or updated - created <= _SAME_SAVE else editor


def _annotation(row: Json, annotators: Mapping[int, str]) -> ReturnedAnnotation:
    # A reset server counts from 1 again, so the creation time is part of the id.
    created = datetime.fromisoformat(row["created_at"])
    number = answers_for(row)
    return ReturnedAnnotation(
        id=f"{row['project']}-{row['id']}-{created:%Y%m%dT%H%M%S.%f}",
        annotator=_NOBODY if number is None else annotators.get(number, str(number)),
        result=row["result"] or [],
        skipped=row["was_cancelled"],
        lead_time_seconds=row["lead_time"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )


NOT_BEGUN = (
    condition("total_annotations", "equal", 0, "Number"),
    condition("cancelled_annotations", "equal", 0, "Number"),
    condition("draft_exists", "equal", False, "Boolean"),
)
"""filters of the data manager for labeling tasks without annotation, skip or draft"""

_ITEMS_PER_IMPORT = 1000
_BYTES_PER_IMPORT = 8_000_000
_KEYS_PER_LOOKUP = 90  # they are part of the URL, which proxies limit to 8 kB
_IDS_PER_REQUEST = 400
_LOOKED_UP = "id,data,overlap,total_predictions"


class TaskWriter:
    """Creates and deletes labeling tasks; only one process may do so at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._most_bytes = _BYTES_PER_IMPORT
        self._made = dict[int, dict[str, int]]()
        """for projects that were empty at first sight: project id -> key -> external id of all created since"""

    def create(
        self, project_id: int, items: Sequence[NewLabelingTask], usual: int
    ) -> dict[str, int]:
        """Create the labeling tasks that do not exist yet; return key -> external id of all.

        `usual` is the project's default number of annotators; others take a request each.
        """
        wanted = {item.key: item for item in items}
        sent = self._look_up(project_id, {item.key: item.num_annotators for item in items})
        waiting = [item for key, item in wanted.items() if key not in sent]
        while waiting:
            part, body = self._next_import(waiting)
            try:
                sent |= self._create_once(project_id, part, body, usual)
            except TooLargeError as error:
                if len(part) == 1:
                    raise RefusedError(
                        f"the labeling task of sample {part[0].sample_id[:12]} has {len(body)} "
                        f"bytes: {error}"
                    ) from None
                self._most_bytes = len(body) // 2
            else:
                waiting = waiting[len(part) :]
        return sent

    def ask(self, external_id: int, num_annotators: int) -> None:
        """Set the number of annotators of a labeling task; reopen it if fewer have answered."""
        path = f"api/tasks/{external_id}/"
        row = self._client.call("PATCH", path, json={"overlap": num_annotators})
        given = [annotation for annotation in row["annotations"] if not annotation["was_cancelled"]]
        answered = {annotation["completed_by"] for annotation in given}
        if row["is_labeled"] and len(answered) < num_annotators:
            self._client.call("PATCH", path, json={"is_labeled": False})

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete those that are not begun; return which of the given ids are gone now."""
        gone = set[int]()
        for id_filter, part in by_ids(external_ids):
            body = {
                # Ids are given twice: a server that ignored the filters would delete everything.
                "selectedItems": {"all": False, "included": part},
                "filters": {"conjunction": "and", "items": [id_filter, *NOT_BEGUN]},
            }
            action = {"id": "delete_tasks", "project": project_id}
            try:
                self._client.call("POST", "api/dm/actions/", params=action, json=body)
            except GoneError:
                return set(external_ids)
            left = {row["id"] for row in self._client.rows(project_id, "id", [id_filter])}
            gone |= set(part) - left
        return gone

    def _next_import(
        self, waiting: Sequence[NewLabelingTask]
    ) -> tuple[list[NewLabelingTask], bytes]:
        """Return the items of the next request, and its body."""
        texts, size = list[bytes](), 0
        for item in waiting[:_ITEMS_PER_IMPORT]:
            text = json.dumps(task_payload(item), allow_nan=False).encode()
            if texts and size + len(text) > self._most_bytes:
                break
            texts.append(text)
            size += len(text)
        return list(waiting[: len(texts)]), b"[" + b",".join(texts) + b"]"

    def _create_once(
        self, project_id: int, items: Sequence[NewLabelingTask], body: bytes, usual: int
    ) -> dict[str, int]:
        wanted = {item.key: item.num_annotators for item in items}
        lost = list[UnavailableError]()

        def attempt() -> dict[str, int]:
            found = self._look_up(project_id, wanted) if lost else {}
            missing = [item for item in items if item.key not in found]
            if not missing:
                return found
            whole = body if len(missing) == len(items) else self._next_import(missing)[1]
            try:
                new = self._import(project_id, missing, whole)
            except UnavailableError as error:
                lost.append(error)
                raise
            self._ask_all((new[key], wanted[key]) for key in new if wanted[key] != usual)
            return found | new

        sent = self._client.settle(attempt)
        if lost:
            # A request that seemed lost may have been slow, and have finished after the look-up.
            self._made.pop(project_id, None)
            sent = self._look_up(project_id, wanted)
        return sent

    def _import(
        self, project_id: int, items: Sequence[NewLabelingTask], body: bytes
    ) -> dict[str, int]:
        answer = self._client.ask(
            "POST",
            f"api/projects/{project_id}/import",
            params={"return_task_ids": "true"},
            content=body,
            headers={"Content-Type": "application/json"},
        )
        if "task_ids" not in answer:
            raise UnavailableError(
                f"Label Studio at {self._client.url} imports {len(items)} labeling tasks in the "
                "background; send again in a minute, and those that have arrived are found"
            )
        if answer["prediction_count"] < len(items):
            # Label Studio retries after a locked database, but without the predictions.
            raise UnavailableError(
                f"Label Studio at {self._client.url} created {len(items)} labeling tasks with "
                f"{answer['prediction_count']} predictions, as it does when its database is locked; "
                "send again to replace them, and let it use PostgreSQL"
            )
        new = dict(zip((item.key for item in items), answer["task_ids"], strict=True))
        if project_id in self._made:
            self._made[project_id] |= new
        return new

    def _look_up(self, project_id: int, wanted: Mapping[str, int]) -> dict[str, int]:
        """Return key -> external id of those that exist; of copies the oldest is kept.

        Labeling tasks without a prediction are deleted too if they are not begun: they have no
        place in the queue. `wanted` is key -> number of annotators, which is raised where a killed
        run left fewer.
        """
        number = self._num_unknown(project_id, wanted)
        there = defaultdict[str, list[Json]](list)
        for filters in _by_keys(wanted, number):
            for row in self._client.rows(project_id, _LOOKED_UP, filters):
                there[str(row["data"].get("key"))].append(row)
        mine = [sorted(there[key], key=_is_bare) for key in wanted if key in there]
        spare = [row["id"] for rows in mine for row in rows if row is not rows[0] or _is_bare(row)]
        gone = self.delete(project_id, spare)
        found = {
            str(row["data"]["key"]): row
            for rows in mine
            for row in reversed(rows)
            if row["id"] not in gone
        }
        self._ask_all(
            (row["id"], wanted[key]) for key, row in found.items() if row["overlap"] < wanted[key]
        )
        return {key: row["id"] for key, row in found.items()}

    def _num_unknown(self, project_id: int, keys: Collection[str]) -> int:
        """Return how many labeling tasks may have one of the keys.

        None if this object created all of the project: anything that another process created since
        would be newer than our newest.
        """
        query = json.dumps({"ordering": ["-tasks:id"]})
        columns = {"include": "id,data", "resolve_uri": "false", "query": query}
        params = {"project": project_id, "page": 1, "page_size": 1, **columns}
        answer = self._client.call("GET", "api/tasks", params=params)
        newest = next(iter(answer["tasks"]), None)
        if newest is None:
            self._made[project_id] = {}
            return 0
        made = self._made.get(project_id, {})
        if made.get(str(newest["data"].get("key"))) != newest["id"]:
            self._made.pop(project_id, None)
            return int(answer["total"])
        return 0 if made.keys().isdisjoint(keys) else int(answer["total"])

    def _ask_all(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Set numbers of annotators by external id; deleted ones are left to reconciliation."""
        for external_id, num_annotators in wanted:
            with suppress(GoneError):
                self.ask(external_id, num_annotators)


def _is_bare(row: Json) -> bool:
    return not row["total_predictions"]


def _by_keys(keys: Collection[str], num_there: int) -> Iterator[list[Json]]:
    """Yield the filters of the requests that find keys among `num_there` labeling tasks fastest."""
    if 2 * len(keys) > num_there:
        if num_there:
            yield []
        return
    ordered = list(keys)
    for start in range(0, len(ordered), _KEYS_PER_LOOKUP):
        part = ordered[start : start + _KEYS_PER_LOOKUP]
        yield [condition("data.key", "in_list", part, "String")]


def by_ids(external_ids: Collection[int]) -> Iterator[tuple[Json, list[int]]]:
    """Yield filters for labeling tasks, with as many ids as fit into a URL, and those ids."""
    ordered = sorted(external_ids)
    for start in range(0, len(ordered), _IDS_PER_REQUEST):
        part = ordered[start : start + _IDS_PER_REQUEST]
        yield condition("id", "in_list", part, "Number"), part
