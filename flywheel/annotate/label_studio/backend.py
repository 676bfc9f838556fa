"""Label Studio as the label stage sees it: fulfils `flywheel.annotate.backend.LabelingBackend`.

What is created exactly once is in `flywheel.annotate.label_studio.task_writer`; how requests travel, fail and are
repeated is in `flywheel.annotate.label_studio.client`. It refuses to know the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import httpx

from flywheel.annotate.backend import (
    MODEL_VERSION,
    InventoryRow,
    LabelingProject,
    LabelingTask,
    NewLabelingTask,
    inventory_row,
    labeling_task,
    score,
    task_payload,
)
from flywheel.annotate.label_studio.client import Client, GoneError, condition, misfits
from flywheel.annotate.label_studio.pictures import BY_UPLOAD, PictureStorage, pictures_of
from flywheel.annotate.label_studio.task_writer import NOT_BEGUN, TaskWriter, by_ids
from flywheel.errors import TaskError
from flywheel.records import Json

_QUEUE = "Uncertainty sampling"  # lowest prediction score first, each person another one
_OVERLAP = timedelta(minutes=5)  # a slow write may become visible after a later one
_ANNOTATIONS = (
    "id,data,updated_at,is_labeled,annotations.id,annotations.project,annotations.created_at,"
    "annotations.updated_at,annotations.completed_by,annotations.result,"
    "annotations.was_cancelled,annotations.lead_time"
)
_SETTINGS_ONLY = {"include": "id,label_config,maximum_annotations"}
_BRIEF = (
    "id,data,updated_at,is_labeled,total_annotations,cancelled_annotations,draft_exists,overlap"
)
_ACTIONS = sorted(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"])
_ANSWERED = condition("total_annotations", "greater", 0, "Number")
_UNANSWERED = condition("total_annotations", "equal", 0, "Number")
_SKIPPED = condition("cancelled_annotations", "greater", 0, "Number")
# Naming a column in a filter is what makes the server compute it.
_EITHER = condition("draft_exists", "in_list", [True, False], "Boolean")


class LabelStudioBackend:
    """A Label Studio server. Open it with `LabelStudioBackend.connect`.

    It holds no connection between two requests, so there is nothing to close.
    Every method raises UnavailableError when the server does not answer (the work waits in the
    ledger), and RefusedError when it answers no.
    """

    def __init__(
        self, client: Client, pictures: PictureStorage = BY_UPLOAD, pages_url: str | None = None
    ) -> None:
        self._client = client
        self._pages_url = pages_url or client.url
        self._pictures = pictures_of(pictures, client)
        self._annotators: dict[int, str] = {}
        self._writer = TaskWriter(client)
        self._settings: dict[int, tuple[str, int]] = {}
        """by project: labeling config, and people who are asked unless told otherwise"""

    @classmethod
    def connect(
        cls,
        url: str,
        token: str | None,
        pictures: PictureStorage = BY_UPLOAD,
        *,
        pages_url: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> LabelStudioBackend:
        """The server at an address, with the access token of one of its users.

        Args:
            url: where its API is.
            token: of a user; None: none is known.
            pictures: how pictures get to it.
            pages_url: where people's browsers find it, if that is another address.
            transport: how requests are sent, for tests.
            sleep: how it waits before it asks again, for tests.

        Raises:
            UnavailableError: nothing answers there.
            RefusedError: the token is missing or wrong.
        """
        return cls(Client.connect(url, token, transport, sleep), pictures, pages_url)

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Bring pictures to where browsers find them; sample id -> address.

        Raises:
            PayloadError: no browser can show one of them.
        """
        return self._pictures.publish(project_id, pictures)

    def page(self, project_id: int) -> str:
        """The page of a project that people open."""
        return f"{self._pages_url}/projects/{project_id}/data"

    def exists(self, project_id: int) -> bool:
        """Whether the project still exists."""
        return self._project(project_id) is not None

    def ensure(
        self, title: str, config: str, project_id: int | None, num_annotators: int = 1
    ) -> LabelingProject:
        """The project of this id, else of exactly this title, created or brought up to date.

        A new project asks so many people in each labeling task unless that says otherwise, which
        takes a request each. It is never changed: Label Studio would change the labeling tasks
        that are there. With more than one, it gives people begun ones first, so that a sample's
        answers come together.
        """
        wanted = {
            "label_config": config,
            "sampling": _QUEUE,
            "show_collab_predictions": True,
        }
        new = {**wanted, "maximum_annotations": num_annotators}
        found = self._project(project_id) if project_id is not None else None
        found = found or self._client.settle(lambda: self._found_or_new(title, new))
        changed = {key: value for key, value in wanted.items() if found[key] != value}
        if changed:
            self._client.call("PATCH", f"api/projects/{found['id']}/", json=changed)
        self._settings[found["id"]] = (config, found["maximum_annotations"])
        return LabelingProject(found["id"], self.page(found["id"]))

    def push(self, project_id: int, items: Sequence[NewLabelingTask]) -> dict[str, int]:
        """Create the labeling tasks that are not there yet; key -> external id of all.

        Exactly once, however often it is called and wherever it was cut off, as long as one
        process sends at a time.

        Raises:
            TaskError: a pre-annotation does not fit the labeling config.
        """
        if project_id not in self._settings:
            found = self._client.call("GET", f"api/projects/{project_id}/", params=_SETTINGS_ONLY)
            self._settings[project_id] = (found["label_config"], found["maximum_annotations"])
        config, usual = self._settings[project_id]
        _check_predictions(config, items)
        return self._writer.create(project_id, items, usual)

    def changed_since(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Every labeling task that changed since then, with all the annotations it has now.

        Without a time, all that people have worked on. Some that changed shortly before come
        again. A project that is gone has none.
        """
        if since is None:
            yield from self._annotated(project_id, [_ANSWERED])
            yield from self._annotated(project_id, [_SKIPPED, _UNANSWERED])
            return
        start = (since - _OVERLAP).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changed = condition("updated_at", "greater_or_equal", start, "Datetime")
        yield from self._annotated(project_id, [changed])

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        """These labeling tasks, with all their annotations; those that are gone are missing."""
        for those, _ in by_ids(external_ids):
            yield from self._annotated(project_id, [those])

    def inventory(self, project_id: int) -> Iterator[InventoryRow]:
        """Every labeling task of a project in brief."""
        for row in self._client.rows(project_id, _BRIEF, [_EITHER]):
            yield inventory_row(row)

    def raise_overlap(self, external_id: int, num_annotators: int) -> None:
        """Raise the number of people asked in one labeling task, and open it again.

        One that is gone stays gone; a reconciliation tells of it.
        """
        with suppress(GoneError):
            self._writer.ask(external_id, num_annotators)

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        """external id -> new priority; which were moved: those that nobody has begun."""
        moved = set[int]()
        for those, _ in by_ids(priorities):
            filters = [those, *NOT_BEGUN]
            for row in self._client.rows(project_id, "id,predictions", filters, fields="all"):
                if self._place(row["predictions"], score(priorities[row["id"]])):
                    moved.add(row["id"])
        return moved

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete labeling tasks that nobody has begun; which of the given are gone now.

        The server itself picks, in the request that deletes, those without annotation, skip or
        draft. Whoever answers in the milliseconds between loses an answer that nobody waits
        for; whoever has one open without having touched it is told so when they submit.
        """
        return self._writer.delete(project_id, external_ids)

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        """Write the data of a labeling task as it was sent; one that is gone stays gone."""
        with suppress(GoneError):
            self._client.call("PATCH", f"api/tasks/{external_id}/", json={"data": dict(data)})

    def register_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Have Label Studio tell an address of every annotation; registered once.

        It names what happened and sends nothing else; our secret is in X-Flywheel-Secret.
        """
        wanted = {
            "url": url,
            "send_payload": False,
            "send_for_all_actions": False,
            "is_active": True,
            "headers": {"X-Flywheel-Secret": secret},
            "actions": _ACTIONS,
        }

        def attempt() -> None:
            known = self._client.call("GET", "api/webhooks/", params={"project": project_id})
            same = [hook for hook in known if hook["url"] == url]
            if not same:
                body = {"project": project_id, **wanted}
                self._client.ask("POST", "api/webhooks/", json=body)
            for hook in same:
                hook["actions"] = sorted(hook["actions"])
                if any(hook[name] != value for name, value in wanted.items()):
                    self._client.call("PATCH", f"api/webhooks/{hook['id']}/", json=wanted)

        self._client.settle(attempt)

    def _project(self, project_id: int) -> Json | None:
        try:
            return self._client.call("GET", f"api/projects/{project_id}/")
        except GoneError:
            return None

    def _found_or_new(self, title: str, wanted: Mapping[str, Json]) -> Json:
        """The oldest project of exactly this title; Label Studio itself finds similar ones too."""
        page, found = 1, list[Json]()
        while True:
            params = {"title": title, "page": page, "page_size": 100}
            answer = self._client.call("GET", "api/projects/", params=params)
            found += [row for row in answer["results"] if row["title"] == title]
            if not answer.get("next"):
                break
            page += 1
        if found:
            return min(found, key=lambda row: int(row["id"]))
        new = {"title": title, "model_version": MODEL_VERSION, **wanted}
        return self._client.ask("POST", "api/projects/", json=new)

    def _place(self, predictions: Sequence[Json], wanted: float) -> bool:
        """Give our prediction another score; False where somebody has deleted it."""
        ours = [one for one in predictions if one["model_version"] == MODEL_VERSION]
        for one in ours:
            if one["score"] != wanted:
                path = f"api/predictions/{one['id']}/"
                with suppress(GoneError):  # somebody has deleted it this moment
                    self._client.call("PATCH", path, json={"score": wanted})
        return bool(ours)

    def _annotated(self, project_id: int, filters: Sequence[Json]) -> Iterator[LabelingTask]:
        # Expanded, annotations are written by one serializer and not by one for each row.
        more = {"fields": "all", "expand": "annotations"}
        for row in self._client.rows(project_id, _ANNOTATIONS, filters, **more):
            self._know({one["completed_by"] for one in row["annotations"]} - {None})
            yield labeling_task(row, self._annotators)

    def _know(self, numbers: Collection[int]) -> None:
        """Learn the e-mails of people; each that nobody knows is asked for once."""
        if all(number in self._annotators for number in numbers):
            return
        for user in self._client.call("GET", "api/users/"):
            self._annotators[user["id"]] = user["email"]
        for number in numbers:
            self._annotators.setdefault(number, str(number))


def _check_predictions(config: str, items: Sequence[NewLabelingTask]) -> None:
    """Label Studio itself would take a wrong pre-annotation and fail to open it."""
    for item in items:
        faults = misfits(config, task_payload(item)["predictions"][0]) if item.result else []
        if faults:
            raise TaskError(
                f"the pre-annotation of sample {item.sample_id[:12]} does not fit the labeling "
                f"config: {'; '.join(faults)}; mend labeling.result of the task"
            )
