"""A project in a folder with real servers, and annotators who work in Label Studio."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import Process
from pathlib import Path
from typing import Any

import httpx
from served import start_server, stop_server

from flywheel.ledger import Ledger
from flywheel.ledger.nights import finished_steps, last_night, skips_of
from flywheel.project import Project, load_project
from flywheel.serve import ModelServer
from flywheel.task import load_function

TOY = Path(__file__).parents[1] / "toys" / "corner_task.py"
PNG = {"Content-Type": "image/png"}
SETTINGS = """
[project]
name = "{name}"
task = "corner_task:task"
[serve]
port = {port}
[labeling]
url = "{label_studio}"
samples_per_night = 20
probability_share = 0.6
[quality]
blind_share = 0.5
gold_share = 0.0
[annotators]
domain_experts = ["tests@example.com"]
[collect]
low_confidence = 1.0
[dataset]
holdout = "groups"
test_groups = 0.5
[train]
steps = 60
batch_size = 16
learning_rate = 0.03
device = "cpu"
[metric]
requirement = 0.9
[gate]
alpha = 0.2
min_fresh_samples = 5
challenges = 2
[prefect]
url = "{prefect}"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    """Where the session's servers are."""

    prefect: str
    label_studio: str
    token: str
    free_url: Callable[[], str]


@dataclass
class SmallProject:
    """A project in a folder, and all that tests do to it."""

    directory: Path
    servers: Servers
    server: Process | None = None
    states: list[Any] = field(default_factory=list)
    posted: list[dict] = field(default_factory=list)

    def configure(self, name: str, **more: str) -> None:
        """Write flywheel.toml; the model server gets a free port."""
        places = {
            "port": self.servers.free_url().rpartition(":")[2],
            "label_studio": self.servers.label_studio,
            "prefect": self.servers.prefect,
        }
        text = SETTINGS.format(name=name, **(places | more))
        (self.directory / "flywheel.toml").write_text(text)

    @property
    def project(self) -> Project:
        return load_project(self.directory)

    def serve(self) -> None:
        """Start the model server, and wait until it answers."""
        self.server = start_server(self.directory)

    def as_predicted_if_drawn(self) -> Callable[[dict], str]:
        """An answer to labeling tasks: the model's on what was drawn, the opposite on the rest.

        As if the lamps had never changed anything, while the training labels say the opposite.
        """
        drawn = dict(self.rows("select sample_id, share from choices"))
        said = dict(self.rows("select sample_id, answer from predictions"))
        opposite = {"upper": "lower", "lower": "upper"}

        def answer(task: dict) -> str:
            name = task["data"]["sample_id"]
            predicted = json.loads(said[name])
            return predicted if drawn[name] == "probability" else opposite[predicted]

        return answer

    def save(self, past: Path) -> None:
        """Copy all that is stored, while the model server may run."""
        state = self.directory / ".flywheel"
        shutil.copytree(
            state, past, dirs_exist_ok=True, ignore=lambda *_: ["ledger.db-shm", "ledger.db-wal"]
        )
        copy_ledger(state / "ledger.db", past / "ledger.db")

    def restore(self, past: Path) -> None:
        """Go back to what `save` copied; the model server may run."""
        state = self.directory / ".flywheel"
        copy_ledger(past / "ledger.db", state / "ledger.db")
        for path in sorted(state.rglob("*"), reverse=True):
            if (
                path.is_file()
                and "ledger.db" not in path.name
                and not (past / path.relative_to(state)).exists()
            ):
                path.unlink()

    def stop_serving(self) -> None:
        if self.server is not None:
            stop_server(self.server)
            self.server = None

    def serving(self) -> str | None:
        """The digest that the model server answers."""
        return ModelServer(self.project.server_url).digest()

    def send(self, first: int, count: int = 32) -> None:
        """Send a day of traffic, with feedback on every answer: the truth is always "lower".

        Three of four pictures have a lamp, which a model sees as "upper" until it is reported.
        """
        picture = load_function("corner_task:picture", self.directory)
        with httpx.Client(base_url=self.project.server_url, timeout=30) as client:
            for number in range(first, first + count):
                lamp = number % 4 != 0
                payload = picture(number, "upper" if lamp else "lower", lamp=lamp)
                answer = client.post("/predict", content=payload, headers=PNG)
                said = answer.raise_for_status().json()
                outcome = {"kind": "outcome", "value": said["answer"] == "lower"}
                reported = {"request_id": said["request_id"], **outcome}
                client.post("/feedback", json=reported).raise_for_status()

    def night(self) -> Any:
        """Run the real flow in this process; the state it ends in."""
        from flows.nightly import nightly  # noqa: PLC0415 - Prefect takes a second to import

        return nightly(directory=self.directory, return_state=True)

    @contextmanager
    def ledger(self) -> Iterator[Any]:
        """A connection to the ledger."""
        with closing(Ledger.open(self.project.ledger_url)) as ledger, ledger.read() as connection:
            yield connection

    def steps(self, number: int | None = None) -> dict[str, Any]:
        """Step -> result, of a night; default: the last."""
        with self.ledger() as connection:
            night = last_night(connection).number if number is None else number
            return {name: step.result for name, step in finished_steps(connection, night).items()}

    def skips(self, number: int | None = None) -> list[tuple[str, str]]:
        with self.ledger() as connection:
            night = last_night(connection).number if number is None else number
            return list(skips_of(connection, night))

    def rows(self, query: str) -> list[tuple]:
        """What the ledger says to an SQL query."""
        with self.ledger() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]


def copy_ledger(source: Path, target: Path) -> None:
    """Copy all that is committed; both databases may be open elsewhere."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


class Annotators:
    """Works in Label Studio as its own pages do, past our code."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Token {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def project_id(self, name: str) -> int | None:
        title = f"flywheel: {name}"
        found = self._json("GET", "/api/projects/", params={"title": title, "page_size": 100})
        ids = [row["id"] for row in found["results"] if row["title"] == title]
        return ids[0] if ids else None

    def tasks(self, name: str) -> list[dict]:
        """The labeling tasks of a project of ours, oldest first; none when it is not there."""
        project_id = self.project_id(name)
        if project_id is None:
            return []
        query = json.dumps({"ordering": ["tasks:id"]})
        params = {"project": project_id, "fields": "all", "page_size": 500, "query": query}
        return self._json("GET", "/api/tasks", params=params)["tasks"]

    def annotate(self, task: dict, answer: str, **more: Any) -> int:
        region = {"id": "r1", "type": "choices", "from_name": "corner", "to_name": "image"}
        body = {"result": [{**region, "value": {"choices": [answer]}}], "lead_time": 2.5, **more}
        return self._json("POST", f"/api/tasks/{task['id']}/annotations/", json=body)["id"]

    def annotate_all(self, name: str, answer: Callable[[dict], str] = lambda task: "lower") -> int:
        """Answer every labeling task of a project that has no annotation; how many."""
        tasks = [task for task in self.tasks(name) if not task["annotations"]]
        for task in tasks:
            self.annotate(task, answer(task))
        return len(tasks)

    def keep_only(self, name: str, ids: set[int]) -> None:
        """Delete all other labeling tasks of a project."""
        others = [task["id"] for task in self.tasks(name) if task["id"] not in ids]
        if others:
            body = {"selectedItems": {"all": False, "included": others}}
            params = {"id": "delete_tasks", "project": self.project_id(name)}
            self._json("POST", "/api/dm/actions", params=params, json=body)

    def delete(self, path: str) -> None:
        self.http.delete(path).raise_for_status()

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        response = self.http.request(method, path, **arguments)
        response.raise_for_status()
        return response.json()
