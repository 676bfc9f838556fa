"""The Label Studio backend against a Label Studio that keeps its work in PostgreSQL, as in production.

Its database takes a minute to make, so a dump of a fresh one lies beside the template of the
SQLite-backed one: later sessions start in seconds.
"""

import dataclasses
import os
import subprocess
import uuid
from datetime import UTC, datetime

import httpx
import pytest
from postgres import new_database

from flywheel.annotate import LabelStudioBackend
from flywheel.annotate.backend import NewLabelingTask, task_data
from flywheel.records import content_id
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials
from flywheel.stack.supervise import start_all, stop_all

pytestmark = pytest.mark.integration

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image"><Choice value="a"/><Choice value="b"/></Choices>
</View>"""


@pytest.fixture(scope="module")
def database(postgres_server, label_studio_template):
    """Settings of a new database, and the dump that fills it; the dump may not be there yet."""
    name = f"ls{uuid.uuid4().hex[:8]}"
    new_database(postgres_server, name)
    settings = {
        "DJANGO_DB": "postgresql",
        "POSTGRE_HOST": "127.0.0.1",
        "POSTGRE_PORT": str(postgres_server.port),
        "POSTGRE_USER": postgres_server.user,
        "POSTGRE_NAME": name,
    }
    return settings, label_studio_template.with_name(f"{label_studio_template.name}.sql")


@pytest.fixture(scope="module")
def label_studio(label_studio, database, postgres_server, free_url, tmp_path_factory):
    """A server of these tests' own."""
    settings, dump = database
    programs = (postgres_server.programs / "initdb").resolve().parent
    place = ["-h", "127.0.0.1", "-p", settings["POSTGRE_PORT"], "-U", postgres_server.user]
    if dump.exists():
        fill = [
            programs / "psql",
            *place,
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            dump,
            settings["POSTGRE_NAME"],
        ]
        subprocess.run(fill, check=True, capture_output=True)
    state, url = tmp_path_factory.mktemp("label-studio-postgres"), free_url()
    names = ("email", "password", "token")
    known = Credentials(
        secret_key="k" * 50, **{name: getattr(label_studio, name) for name in names}
    )
    service = catalogue.label_studio(state / "data", url, known)
    start_all([dataclasses.replace(service, env=service.env | settings)], state, print)
    if not dump.exists():
        # Written beside, then renamed: another session sees all of it or nothing.
        scratch = dump.with_name(f"{dump.name}.{os.getpid()}")
        save = [programs / "pg_dump", *place, "-f", scratch, settings["POSTGRE_NAME"]]
        subprocess.run(save, check=True, capture_output=True)
        scratch.rename(dump)
    yield dataclasses.replace(label_studio, url=url, data=state / "data")
    stop_all(state, print)


@pytest.fixture
def project(studio) -> int:
    return studio.ensure(f"postgres {uuid.uuid4().hex[:8]}", CONFIG, None).id


def result(letter: str) -> list[dict]:
    region = {"id": "r1", "type": "choices", "from_name": "letter", "to_name": "image"}
    return [{**region, "value": {"choices": [letter]}}]


def item(number: int, num_annotators: int = 1) -> NewLabelingTask:
    return NewLabelingTask(
        key=content_id(b"key %d" % number),
        sample_id=content_id(b"%d" % number),
        data={"image": "/static/images/logo.png"},
        result=result("a") if number % 2 else [],
        priority=1 - number / 1000,
        num_annotators=num_annotators,
        shown={"confidence": 1e-7, "reason": "é", "whole": 1.0} if number % 2 else {},
    )


class LosesAnswers(httpx.BaseTransport):
    """The first answers to imports do not arrive."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.network = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.network.handle_request(request)
        if request.url.path.endswith("/import") and self.times:
            response.read()
            self.times -= 1
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return response

    def close(self) -> None:
        self.network.close()


def test_each_labeling_task_is_created_once(label_studio, annotators, project):
    deaf = LabelStudioBackend.connect(
        label_studio.url, label_studio.token, transport=LosesAnswers(3), sleep=lambda _: None
    )
    items = [item(number, num_annotators=2 if number in (1, 3) else 1) for number in range(300)]
    ids = deaf.push(project, items[:20])
    ids |= deaf.push(project, items)
    again = LabelStudioBackend.connect(label_studio.url, label_studio.token).push(
        project, items[40:60]
    )
    there = annotators.tasks(project)
    assert {task["data"]["key"]: task["id"] for task in there} == ids
    assert len(there) == 300
    assert again.items() <= ids.items()
    assert [task["overlap"] for task in there[:4]] == [1, 2, 1, 2]


def test_what_annotators_do_is_seen_and_what_they_have_begun_is_left_alone(
    studio, annotators, project
):
    items = [item(number) for number in range(8)]
    pushed = studio.push(project, items)
    ids = [pushed[one.key] for one in items]
    assert [one.data for one in studio.inventory(project)] == [task_data(one) for one in items]
    given = annotators.annotate(ids[0], result("b"))
    annotators.annotate(ids[1], [], was_cancelled=True)
    annotators.http.post(f"/api/tasks/{ids[2]}/drafts", json={"result": result("a")})
    first = {one.external_id: one for one in studio.changed_since(project, None)}
    assert [first[number].annotations[0].skipped for number in ids[:2]] == [False, True]
    assert [one.is_begun for one in studio.inventory(project)] == [True] * 3 + [False] * 5
    assert studio.reorder(project, {ids[1]: 1.0, ids[7]: 1.0}) == {ids[7]}
    assert annotators.next(project)["id"] == ids[7]
    assert studio.delete(project, ids[:5]) == set(ids[3:5])
    annotators.delete(f"/api/annotations/{given}/")
    changed = {one.external_id: one for one in studio.changed_since(project, datetime.now(UTC))}
    assert changed[ids[0]].annotations == ()
    studio.raise_overlap(ids[0], 2)
    assert not next(studio.fetch(project, ids[:1])).is_finished
