"""Implements `flywheel.annotate.backend.LabelingBackend` for Label Studio.

`task_writer` creates labeling tasks exactly once, `client` sends requests and retries them, and
`payloads` converts the JSON.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import httpx

from flywheel.annotate.backend import (
    ForeignProject,
    InventoryRow,
    LabelingProject,
    LabelingTask,
    NewLabelingTask,
    other_owner,
)
from flywheel.annotate.label_studio.client import Client, GoneError, condition, misfits
from flywheel.annotate.label_studio.media import BY_UPLOAD, MediaStorage, store_of
from flywheel.annotate.label_studio.task_writer import (
    MODEL_VERSION,
    NOT_BEGUN,
    TaskWriter,
    answers_for,
    by_ids,
    inventory_row,
    labeling_task,
    score,
    task_payload,
)
from flywheel.errors import TaskError
from flywheel.records import Json, Media

_QUEUE = (
    "Uncertainty sampling"  # lowest prediction score first, a different task for each annotator
)
# A slow write may become visible after a later one, so the last minutes are read again.
_OVERLAP = timedelta(minutes=5)
_ANNOTATIONS = (
    "id,data,updated_at,is_labeled,annotations.id,annotations.project,annotations.created_at,"
    "annotations.updated_at,annotations.completed_by,annotations.updated_by,annotations.result,"
    "annotations.was_cancelled,annotations.lead_time"
)
_SETTINGS_ONLY = {"include": "id,label_config,maximum_annotations"}
_BRIEF = (
    "id,data,updated_at,is_labeled,total_annotations,cancelled_annotations,draft_exists,overlap"
)
_OWNER = re.compile(r"flywheel project ([0-9a-f]{32})")
_ACTIONS = sorted(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"])
_ANSWERED = condition("total_annotations", "greater", 0, "Number")
_UNANSWERED = condition("total_annotations", "equal", 0, "Number")
_SKIPPED = condition("cancelled_annotations", "greater", 0, "Number")
# The server computes this column only if a filter names it.
_EITHER = condition("draft_exists", "in_list", [True, False], "Boolean")


class LabelStudioBackend:
    """A Label Studio server. Open it with `LabelStudioBackend.connect`.

    It holds no connection between two requests, so there is nothing to close.
    Every method raises UnavailableError if the server does not answer (the work waits in the
    ledger), and RefusedError if it refuses the request.
    """

    def __init__(
        self, client: Client, media: MediaStorage = BY_UPLOAD, pages_url: str | None = None
    ) -> None:
        self._client = client
        self._pages_url = pages_url or client.url
        self._media = store_of(media, client)
        self._annotators: dict[int, str] = {}
        self._writer = TaskWriter(client)
        self._settings: dict[int, tuple[str, int]] = {}
        """project id -> labeling config and default number of annotators"""

    @classmethod
    def connect(
        cls,
        url: str,
        token: str | None,
        media: MediaStorage = BY_UPLOAD,
        *,
        pages_url: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> LabelStudioBackend:
        """Connect to a server with the access token of one of its users.

        Args:
            url: address of its API.
            token: a user's access token; None raises RefusedError.
            media: how media are published.
            pages_url: address for annotators' browsers, if it differs.
            transport: sends the requests, for tests.
            sleep: waits before a retry, for tests.

        Raises:
            UnavailableError: nothing answers there.
            RefusedError: the token is missing or wrong.
        """
        return cls(Client.connect(url, token, transport, sleep), media, pages_url)

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Publish media by the names of their files; return name -> address.

        Raises:
            PayloadError: a browser cannot show one of them.
        """
        return self._media.publish(project_id, files)

    def page(self, project_id: int) -> str:
        """Return the address of the project's page."""
        return f"{self._pages_url}/projects/{project_id}/data"

    def exists(self, project_id: int, owner: str = "") -> bool:
        """Return whether the project still exists.

        Raises:
            RefusedError: another flywheel project than `owner` has it: it is another server.
        """
        found = self._project(project_id)
        if found is not None and owner:
            _owned(found, owner)
        return found is not None

    def look_at(self, project_id: int) -> ForeignProject | None:
        """Return title and config of a project that need not be ours; None if it does not exist."""
        found = self._project(project_id)
        return None if found is None else ForeignProject(found["title"], found["label_config"])

    def download(self, address: str) -> bytes | None:
        """Return a file that data of a labeling task name; None if the server does not have it.

        Other addresses are not fetched: who may write data there must not choose what is read here.
        """
        path = address.removeprefix(self._client.url).removeprefix(self._pages_url)
        return self._client.file(path) if path.startswith("/data/") else None

    def ensure(
        self,
        title: str,
        config: str,
        project_id: int | None,
        num_annotators: int = 1,
        owner: str = "",
    ) -> LabelingProject:
        """Find the project by id, else by exact title, else create it; bring its config up to date.

        `num_annotators` is the default of a new project. Labeling tasks that differ from it take
        a request each. The default is never changed later: Label Studio would change existing
        labeling tasks too. If it is above 1, Label Studio hands out begun labeling tasks first, so
        that the answers to a sample come together. The owner's id stands in the description.

        Raises:
            RefusedError: the project belongs to another flywheel project.
        """
        wanted = {
            "label_config": config,
            "sampling": _QUEUE,
            "show_collab_predictions": True,
        }
        new = {**wanted, "maximum_annotations": num_annotators}
        found = self._project(project_id) if project_id is not None else None
        found = found or self._client.settle(lambda: self._found_or_new(title, new))
        if owner:
            wanted["description"] = _owned(found, owner)
        changed = {key: value for key, value in wanted.items() if found.get(key) != value}
        if changed:
            self._client.call("PATCH", f"api/projects/{found['id']}/", json=changed)
        self._settings[found["id"]] = (config, found["maximum_annotations"])
        return LabelingProject(found["id"], self.page(found["id"]))

    def push(self, project_id: int, items: Sequence[NewLabelingTask]) -> dict[str, int]:
        """Create the labeling tasks that do not exist yet; return key -> external id of all.

        Each is created exactly once, however often this is called and wherever it was interrupted,
        as long as one process sends at a time.

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
        """Yield every labeling task that changed since then, with all its current annotations.

        Without a time, all that have an annotation or a skip. Labeling tasks that changed up to
        five minutes before are repeated. A deleted project has none.
        """
        if since is None:
            yield from self._annotated(project_id, [_ANSWERED])
            yield from self._annotated(project_id, [_SKIPPED, _UNANSWERED])
            return
        start = (since - _OVERLAP).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changed = condition("updated_at", "greater_or_equal", start, "Datetime")
        yield from self._annotated(project_id, [changed])

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        """Yield these labeling tasks with all their annotations, without deleted ones."""
        for id_filter, _ in by_ids(external_ids):
            yield from self._annotated(project_id, [id_filter])

    def inventory(self, project_id: int) -> Iterator[InventoryRow]:
        """Yield every labeling task of a project, without annotations."""
        for row in self._client.rows(project_id, _BRIEF, [_EITHER]):
            yield inventory_row(row)

    def raise_overlap(self, external_id: int, num_annotators: int) -> None:
        """Raise the number of annotators of a labeling task, and reopen it.

        Nothing happens if it was deleted; the next reconciliation reports that.
        """
        with suppress(GoneError):
            self._writer.ask(external_id, num_annotators)

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        """Set priorities by external id; return the ids that moved. Begun ones keep their place."""
        moved = set[int]()
        for id_filter, _ in by_ids(priorities):
            filters = [id_filter, *NOT_BEGUN]
            for row in self._client.rows(project_id, "id,predictions", filters, fields="all"):
                if self._place(row["predictions"], score(priorities[row["id"]])):
                    moved.add(row["id"])
        return moved

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete labeling tasks that are not begun; return which of the given ids are gone now.

        The server itself selects those without annotation, skip or draft, in the request that
        deletes them. An annotation submitted within those milliseconds is lost, but it was no
        longer needed. An annotator who has an untouched one open sees an error on submitting.
        """
        return self._writer.delete(project_id, external_ids)

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        """Write the data of a labeling task as it was sent; nothing happens if it was deleted."""
        with suppress(GoneError):
            self._client.call("PATCH", f"api/tasks/{external_id}/", json={"data": dict(data)})

    def register_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Have Label Studio notify an address of every annotation. Idempotent.

        A notification holds the kind of event and no data; our secret is in X-Flywheel-Secret.
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
        """Return the oldest project of exactly this title, else a new one."""
        page, found = 1, list[Json]()
        while True:
            params = {"title": title, "page": page, "page_size": 100}
            answer = self._client.call("GET", "api/projects/", params=params)
            # Label Studio also finds titles that only contain this one.
            found += [row for row in answer["results"] if row["title"] == title]
            if not answer.get("next"):
                break
            page += 1
        if found:
            return min(found, key=lambda row: int(row["id"]))
        new = {"title": title, "model_version": MODEL_VERSION, **wanted}
        return self._client.ask("POST", "api/projects/", json=new)

    def _place(self, predictions: Sequence[Json], wanted: float) -> bool:
        """Set the score of our prediction; return False if it was deleted."""
        ours = [row for row in predictions if row["model_version"] == MODEL_VERSION]
        for prediction in ours:
            if prediction["score"] != wanted:
                path = f"api/predictions/{prediction['id']}/"
                with suppress(GoneError):  # deleted since it was read
                    self._client.call("PATCH", path, json={"score": wanted})
        return bool(ours)

    def _annotated(self, project_id: int, filters: Sequence[Json]) -> Iterator[LabelingTask]:
        # With expand, the server serializes all annotations at once, which is much faster.
        more = {"fields": "all", "expand": "annotations"}
        for row in self._client.rows(project_id, _ANNOTATIONS, filters, **more):
            users = (answers_for(annotation) for annotation in row["annotations"])
            self._look_up_emails({number for number in users if number is not None})
            yield labeling_task(row, self._annotators)

    def _look_up_emails(self, numbers: Collection[int]) -> None:
        """Look up the e-mails of new users; unknown ones are looked up once."""
        if all(number in self._annotators for number in numbers):
            return
        for user in self._client.call("GET", "api/users/"):
            self._annotators[user["id"]] = user["email"]
        for number in numbers:
            self._annotators.setdefault(number, str(number))


def _owned(found: Json, owner: str) -> str:
    """Return the description of a project with the id of its owner in it."""
    text = found.get("description") or ""
    known = _OWNER.search(text)
    if known is None:
        return f"{text}\nflywheel project {owner}".strip()
    if known[1] != owner:
        raise other_owner(found["title"], known[1], owner)
    return str(text)


def _check_predictions(config: str, items: Sequence[NewLabelingTask]) -> None:
    """Raise an error for a wrong pre-annotation: Label Studio would accept it and fail to open it."""
    for item in items:
        faults = misfits(config, task_payload(item)["predictions"][0]) if item.result else []
        if faults:
            raise TaskError(
                f"the pre-annotation of sample {item.sample_id[:12]} does not fit the labeling "
                f"config: {'; '.join(faults)}; fix labeling.result of the task"
            )
