"""Label Studio, seen through its SDK; the only module that imports it.

It creates labeling tasks exactly once and reads annotations back as plain records. It refuses
to know the ledger. The SDK never repeats a request here: after a lost answer it would create
labeling tasks a second time, so a repeat looks up first what is already there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.data_manager import Column, Filters, Operator, Type
from label_studio_sdk.label_interface.interface import LabelInterface

from flywheel.errors import FlywheelError, RefusedError, TaskError, UnavailableError
from flywheel.label.exchange import Item, LabelingTask, StudioProject
from flywheel.label.shapes import (
    MODEL_VERSION,
    labeling_task,
    new_task,
    prediction,
    uploads,
)
from flywheel.records import Json

_QUEUE = "Uncertainty sampling"  # lowest prediction score first, each person another one
_ITEMS_PER_IMPORT = 250
_IDS_PER_LOOKUP = 50  # they travel in the address, which proxies cut at 8 kB
_TASKS_PER_PAGE = 200
_OVERLAP = timedelta(minutes=5)  # a slow write may become visible after a later one
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.0  # doubled after every attempt
_TIMEOUT_SECONDS = 60.0


class Studio:
    """A Label Studio server. Open it with `Studio.connect`.

    It holds no connection between two requests, so there is nothing to close.
    Every method raises UnavailableError when the server does not answer (the work waits in the
    ledger), and RefusedError when it answers no.
    """

    def __init__(self, url: str, client: LabelStudio) -> None:
        self.url = url
        # The SDK has no call for uploads, and its typed models fail on some rows of a listing.
        self._http = client._client_wrapper.httpx_client  # noqa: SLF001

    @classmethod
    def connect(
        cls, url: str, token: str | None, transport: httpx.BaseTransport | None = None
    ) -> Studio:
        """The server at an address, with the access token of one of its users.

        Raises:
            UnavailableError: nothing answers there.
            RefusedError: the token is missing or wrong.
        """
        url = url.rstrip("/")
        if not token:
            raise RefusedError(
                f"Label Studio at {url} needs a token; set LABEL_STUDIO_API_KEY to the access token "
                f"from {url}/user/account"
            )
        http = httpx.Client(
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=True,
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )
        with _told(url):
            client = LabelStudio(base_url=url, api_key=token, httpx_client=http, max_retries=0)
        studio = cls(url, client)
        studio._call("GET", "api/current-user/whoami")
        return studio

    def ensure_project(self, title: str, config: str, annotations_per_sample: int) -> StudioProject:
        """The project of exactly this title, created or brought up to date."""
        wanted = {
            "label_config": config,
            "maximum_annotations": annotations_per_sample,
            "sampling": _QUEUE,
            "show_collab_predictions": True,
        }
        found = self._find_project(title)
        if found is None:
            new = {"title": title, "model_version": MODEL_VERSION, **wanted}
            found = self._call("POST", "api/projects/", json=new)
        changed = {key: value for key, value in wanted.items() if found[key] != value}
        if changed:
            self._call("PATCH", f"api/projects/{found['id']}/", json=changed)
        return StudioProject(found["id"], f"{self.url}/projects/{found['id']}/data")

    def push(self, project_id: int, items: Sequence[Item]) -> dict[str, int]:
        """Create the labeling tasks that are not there yet; sample id -> external id of all.

        Exactly once, however often it is called and wherever it was cut off, as long as one
        process sends at a time.

        Raises:
            TaskError: a pre-annotation does not fit the labeling config.
        """
        config = self._call("GET", f"api/projects/{project_id}/")["label_config"]
        _check_predictions(config, items)
        sent: dict[str, int] = {}
        for start in range(0, len(items), _ITEMS_PER_IMPORT):
            sent |= self._push_some(project_id, items[start : start + _ITEMS_PER_IMPORT])
        return sent

    def find(self, project_id: int, sample_ids: Collection[str]) -> dict[str, int]:
        """sample id -> external id of those that are there; a project that is gone has none."""
        ids, found = list(sample_ids), dict[str, int]()
        for start in range(0, len(ids), _IDS_PER_LOOKUP):
            part = ids[start : start + _IDS_PER_LOOKUP]
            same = Filters.item(Column.data("sample_id"), Operator.IN_LIST, Type.String, part)
            for row in self._rows(project_id, [same], "task_only"):
                found.setdefault(row["data"]["sample_id"], row["id"])
        return found

    def pull(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Every labeling task that changed since then, with all the annotations it has now.

        Some that changed shortly before come again. A project that is gone has none.
        """
        filters = []
        if since is not None:
            start = (since - _OVERLAP).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            filters.append(
                Filters.item(Column.updated_at, Operator.GREATER_OR_EQUAL, Type.Datetime, start)
            )
        for row in self._rows(project_id, filters, "all"):
            yield labeling_task(row)

    def _push_some(self, project_id: int, items: Sequence[Item]) -> dict[str, int]:
        pictures: dict[str, str] = {}
        for attempt in range(_ATTEMPTS):
            try:
                found = self.find(project_id, [item.sample_id for item in items])
                missing = [item for item in items if item.sample_id not in found]
                return found | self._create(project_id, missing, pictures)
            except UnavailableError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("the loop above returns or raises")

    def _create(
        self, project_id: int, items: Sequence[Item], pictures: dict[str, str]
    ) -> dict[str, int]:
        """Import new labeling tasks; `pictures` remembers what is uploaded for a next attempt."""
        if not items:
            return {}
        for part in uploads([item for item in items if item.sample_id not in pictures]):
            pictures |= self._upload(project_id, part)
        answer = self._call(
            "POST",
            f"api/projects/{project_id}/import",
            params={"return_task_ids": "true"},
            json=[new_task(item, pictures[item.sample_id]) for item in items],
        )
        if "task_ids" not in answer:
            raise UnavailableError(
                f"Label Studio at {self.url} imports {len(items)} labeling tasks in the background; "
                "send again in a minute, those that have arrived are found then"
            )
        return dict(zip((item.sample_id for item in items), answer["task_ids"], strict=True))

    def _upload(self, project_id: int, items: Sequence[Item]) -> dict[str, str]:
        """Upload pictures; sample id -> address on the server."""
        files = {
            f"f{number}": (f"{item.sample_id}.png", item.picture, "image/png")
            for number, item in enumerate(items)
        }
        path = f"api/projects/{project_id}/import"
        answer = self._call("POST", path, params={"commit_to_project": "false"}, files=files)
        rows = self._call(
            "GET",
            f"api/projects/{project_id}/file-uploads",
            params={"ids": json.dumps(answer["file_upload_ids"])},
        )
        # Stored as upload/<project>/<8 random characters>-<sample id>.png
        return {
            row["file"].rpartition("-")[2].removesuffix(".png"): f"/data/{row['file']}"
            for row in rows
        }

    def _find_project(self, title: str) -> Json | None:
        """The oldest project of exactly this title; Label Studio itself finds similar ones too."""
        page, found = 1, list[Json]()
        while True:
            params = {"title": title, "page": page, "page_size": 100}
            answer = self._call("GET", "api/projects/", params=params)
            found += [row for row in answer["results"] if row["title"] == title]
            if not answer.get("next"):
                return min(found, key=lambda row: int(row["id"]), default=None)
            page += 1

    def _rows(self, project_id: int, filters: list[Any], fields: str) -> Iterator[Json]:
        """Labeling tasks as raw JSON, in order of their ids: writes in between lose none."""
        last_id, is_last = 0, False
        while not is_last:
            newer = Filters.item(Column.id, Operator.GREATER, Type.Number, last_id)
            chosen = Filters.create(Filters.AND, [newer, *filters])
            query = json.dumps({"filters": chosen, "ordering": ["tasks:id"]})
            params = {"project": project_id, "fields": fields, "query": query}
            paging = {"page": 1, "page_size": _TASKS_PER_PAGE}
            response = self._request("GET", "api/tasks", params=params | paging)
            if response.status_code == httpx.codes.NOT_FOUND:
                return
            rows = self._json(response)["tasks"]
            yield from rows
            is_last = len(rows) < _TASKS_PER_PAGE
            last_id = rows[-1]["id"] if rows else 0

    def _call(self, method: str, path: str, **arguments: Any) -> Json:
        return self._json(self._request(method, path, **arguments))

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with _told(self.url):
            return self._http.request(path, method=method, **arguments)

    def _json(self, response: httpx.Response) -> Json:
        try:
            body = response.json()
        except ValueError:
            body = "a page that is no JSON"
        if response.is_success and isinstance(body, dict | list):
            return body
        raise _fault(self.url, response.status_code, body)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our two errors."""
    try:
        yield
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Label Studio at {url} does not answer ({type(error).__name__}: {error}); "
            "start it (flywheel up), or mend labeling.url; the work waits in the ledger"
        ) from error
    except json.JSONDecodeError as error:
        raise UnavailableError(
            f"what answers at {url} is not Label Studio ({error}); check labeling.url and any "
            "proxy before it; the work waits in the ledger"
        ) from error
    except ApiError as error:
        # Its text holds response headers, a session cookie among them: no chaining.
        raise _fault(url, error.status_code or 0, error.body) from None


def _fault(url: str, status: int, body: Json) -> FlywheelError:
    if status == httpx.codes.UNAUTHORIZED:
        return RefusedError(
            f"Label Studio at {url} refuses the token in LABEL_STUDIO_API_KEY (401); "
            f"copy a valid one from {url}/user/account"
        )
    detail = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    reason = f"Label Studio at {url} answers {status}: {str(detail)[:500]}"
    if status >= 500 or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}:
        return UnavailableError(f"{reason}; look into its log, the work waits in the ledger")
    return RefusedError(
        f"{reason}; check labeling.url, the rights of the token's user and the labeling config"
    )


def _check_predictions(config: str, items: Sequence[Item]) -> None:
    """Label Studio itself would take a wrong pre-annotation and fail to open it."""
    interface = LabelInterface(config)
    for item in items:
        faults = interface.validate_prediction(prediction(item), return_errors=True)
        if faults:
            raise TaskError(
                f"the pre-annotation of sample {item.sample_id[:12]} does not fit the labeling "
                f"config: {'; '.join(faults)}; mend labeling.result of the task"
            )
