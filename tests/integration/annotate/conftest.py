"""The letters project in the session's real Label Studio, and what annotators do there."""

from __future__ import annotations

import dataclasses
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from flywheel.annotate import LabelStudioBackend, PullResult, Sender, SendResult, pull, send
from flywheel.ledger.campaigns import EVERYONE, begin_campaign, found_project, labeling_projects

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture
def letters(letters):
    """A project of its own on the shared server."""
    name = f"letters-{uuid.uuid4().hex[:8]}"
    identity = letters.project.project.model_copy(update={"name": name})
    project = letters.project.model_copy(update={"project": identity})
    return dataclasses.replace(letters, project=project)


@pytest.fixture(scope="module")
def studio(label_studio) -> LabelStudioBackend:
    return LabelStudioBackend.connect(label_studio.url, label_studio.token)


class Annotators:
    """Talks to Label Studio as its own pages do, past our code."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Token {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def task(self, external_id: int) -> dict:
        return self._json("GET", f"/api/tasks/{external_id}/")

    def tasks(self, project_id: int) -> list[dict]:
        query = json.dumps({"ordering": ["tasks:id"]})
        params = {"project": project_id, "fields": "all", "page_size": 500, "query": query}
        return self._json("GET", "/api/tasks", params=params)["tasks"]

    def next(self, project_id: int) -> dict:
        return self._json("GET", f"/api/projects/{project_id}/next")

    def annotate(self, external_id: int, result: list, **more: object) -> int:
        body = {"result": result, "lead_time": 2.5, **more}
        path = f"/api/tasks/{external_id}/annotations/"
        return self._json("POST", path, json=body)["id"]

    def change(self, annotation_id: int, result: list) -> None:
        self._json("PATCH", f"/api/annotations/{annotation_id}/", json={"result": result})

    def delete(self, path: str) -> None:
        self.http.delete(path).raise_for_status()

    def _json(self, method: str, path: str, **arguments: object) -> dict:
        response = self.http.request(method, path, **arguments)
        response.raise_for_status()
        return response.json()


@pytest.fixture(scope="module")
def annotators(label_studio) -> Iterator[Annotators]:
    annotators = Annotators(label_studio.url, label_studio.token)
    yield annotators
    annotators.http.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file; each has a context of its own in it."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        yield (browser := playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS))
        browser.close()


@pytest.fixture
def page(browser, label_studio) -> Iterator[Page]:
    """A page of a real browser, in which the project's one user is logged in."""
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
        page = context.new_page()
        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", label_studio.email)
        page.fill("input[name=password]", label_studio.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "login" not in url, wait_until="commit")
        yield page


@pytest.fixture
def send_now(letters, studio) -> Callable[..., SendResult]:
    def run(through: LabelStudioBackend = studio) -> SendResult:
        sender = Sender(
            ledger=letters.ledger,
            blobs=letters.blobs,
            studio=through,
            task=letters.task,
            project=letters.project,
        )
        return send(sender, NOW)

    return run


@pytest.fixture
def pull_now(letters, studio) -> Callable[[], PullResult]:
    def run() -> PullResult:
        return pull(letters.ledger, letters.blobs, studio, letters.task, NOW)

    return run


@pytest.fixture
def project_id(letters, studio) -> int:
    """The number of the project in Label Studio, with or before anything in it."""
    with letters.ledger.read() as connection:
        known = labeling_projects(connection)
    if known:
        return known[-1]
    title = f"flywheel: {letters.project.name}"
    page = studio.ensure(title, letters.task.labeling.config, None)
    with letters.ledger.begin() as connection:
        campaign = begin_campaign(connection, EVERYONE, title, NOW)
        found_project(connection, campaign.id, page.id)
    return page.id
