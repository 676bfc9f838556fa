"""A Label Studio that may be killed, annotators who work there, and processes that send and pull.

What annotators did is written down where nothing else would show it afterwards: which annotations and
labeling tasks they deleted, and what they copied or made by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
from chaos_letters import open_letters
from sqlalchemy import Row, func, select

from flywheel.ledger.outbox import num_elsewhere
from flywheel.ledger.tables import annotations, campaigns, labeling_tasks, requests
from flywheel.records import Purpose
from flywheel.stack import catalogue
from flywheel.stack.supervise import start_all, stop_all

KILLED = -9
DONE, CRASHED, REPORTED, BUSY = 0, 1, 2, 3
_PROGRAM = Path(__file__).with_name("chaos_child.py")
_MOMENT_SECONDS = 0.1
_BRIEF = "id,data,is_labeled,annotations.id,annotations.completed_by"


class Server:
    """A Label Studio of its own, on a port that it keeps."""

    def __init__(self, state: Path, url: str, credentials) -> None:
        self.url, self.token = url, credentials.token
        self.num_kills = 0
        self._state = state
        self._service = catalogue.label_studio(state / "data", url, credentials)
        self.start()

    def start(self) -> None:
        (running,) = start_all([self._service], self._state, lambda _: None)
        self.pid = running.pid

    def kill(self) -> None:
        """No warning, no last word; return when it is gone."""
        process = psutil.Process(self.pid)
        process.kill()
        # The process that started it waits for it, too.
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(10)
        self.num_kills += 1
        log = self._state / "logs" / "label-studio.log"
        shutil.copy(log, log.with_name(f"before-kill-{self.num_kills}.log"))

    def stop(self) -> None:
        stop_all(self._state, lambda _: None)


class Annotators:
    """Three of them, who work directly on the server; what it answers them may be an error."""

    def __init__(self, server: Server, result: Callable, rng: np.random.Generator) -> None:
        headers = {"Authorization": f"Token {server.token}"}
        self.http = httpx.Client(base_url=server.url, headers=headers, timeout=60)
        self.did = Counter[str]()
        self.deleted_annotations = set[int]()
        self.deleted_keys = set[str]()
        self.copied_keys = set[str]()
        self.begun_keys = set[str | None]()
        self.foreign = set[int]()
        """labeling tasks that they made by hand"""
        self._result, self._rng = result, rng
        self.numbers = [self._hire(f"person{number}@example.com") for number in range(3)]

    def projects(self, name: str) -> list[int]:
        """Those of one flywheel project, the oldest first."""
        answer = self._json("GET", "/api/projects/", params={"page_size": 500})
        mine = [row for row in answer["results"] if row["title"].startswith(f"flywheel: {name}")]
        return sorted(row["id"] for row in mine)

    def tasks(self, project_id: int, **more: str) -> list[dict]:
        """Every labeling task of a project, whole unless columns are named."""
        query = json.dumps({"ordering": ["tasks:id"]})
        params = {"project": project_id, "fields": "all", "query": query, **more}
        rows, page = [], 1
        while True:
            paging = {"page": page, "page_size": 500}
            answer = self._json("GET", "/api/tasks", params={**params, **paging})
            rows += answer["tasks"]
            if len(rows) >= answer["total"]:
                return rows
            page += 1

    def brief(self, project_id: int) -> list[dict]:
        """The same without what annotators at work do not look at, in a fraction of the time."""
        return self.tasks(project_id, include=_BRIEF, expand="annotations")

    def annotate(self, task: dict, letter: str = "", **more: object) -> None:
        letter = letter or str(
            self._rng.choice(["a", "b", "c", "unusable"], p=[0.3, 0.3, 0.3, 0.1])
        )
        given = {one["completed_by"] for one in task["annotations"]}
        left = [number for number in self.numbers if number not in given] or self.numbers
        body = {"result": self._result(letter, None), "lead_time": 2.5, "completed_by": left[0]}
        self.begun_keys.add(task["data"].get("key"))
        self._json("POST", f"/api/tasks/{task['id']}/annotations/", json={**body, **more})
        self.did["annotated"] += 1

    def skip(self, task: dict) -> None:
        self.annotate(task, result=[], was_cancelled=True)
        self.did["skipped"] += 1

    def change(self, annotation: dict) -> None:
        letter = str(self._rng.choice(["a", "b", "c"]))
        path = f"/api/annotations/{annotation['id']}/"
        self._json("PATCH", path, json={"result": self._result(letter, None)})
        self.did["changed"] += 1

    def delete_annotation(self, annotation: dict) -> None:
        self.deleted_annotations.add(annotation["id"])
        self.http.delete(f"/api/annotations/{annotation['id']}/").raise_for_status()
        self.did["deleted"] += 1

    def delete_task(self, task: dict) -> None:
        self.deleted_keys.add(task["data"]["key"])
        self.http.delete(f"/api/tasks/{task['id']}/").raise_for_status()
        self.did["labeling tasks deleted"] += 1

    def delete_project(self, project_id: int) -> None:
        self.http.delete(f"/api/projects/{project_id}/").raise_for_status()
        self.did["projects deleted"] += 1

    def copy_task(self, project_id: int, task: dict) -> dict:
        """As an export that is imported once more does it."""
        self.copied_keys.add(task["data"]["key"])
        self.did["labeling tasks copied"] += 1
        return self._import(project_id, task["data"])

    def make_task(self, project_id: int) -> dict:
        """One of their own."""
        task = self._import(project_id, {"image": "/static/images/logo.png"})
        self.foreign.add(task["id"])
        self.did["labeling tasks made by hand"] += 1
        return task

    def edit_task(self, task: dict, **data: object) -> None:
        """Other data; None takes a field away."""
        edited = {name: value for name, value in (task["data"] | data).items() if value is not None}
        self._json("PATCH", f"/api/tasks/{task['id']}/", json={"data": edited})
        self.did["labeling tasks edited"] += 1

    def something(self, project_id: int) -> None:
        """What annotators do all day."""
        rows = [row for row in self.brief(project_id) if row["id"] not in self.foreign]
        given = [one for row in rows for one in row["annotations"]]
        still_open = [row for row in rows if not row["is_labeled"]]
        draw = self._rng.random()
        if still_open and draw < 0.6:
            self.annotate(self._one_of(still_open))
        elif still_open and draw < 0.7:
            self.skip(self._one_of(still_open))
        elif given and draw < 0.9:
            self.change(self._one_of(given))
        elif given:
            self.delete_annotation(self._one_of(given))

    def emails(self) -> dict[int, str]:
        return {row["id"]: row["email"] for row in self._json("GET", "/api/users/")}

    def _one_of(self, rows: list[dict]) -> dict:
        return rows[int(self._rng.integers(len(rows)))]

    def _import(self, project_id: int, data: dict) -> dict:
        path, params = f"/api/projects/{project_id}/import", {"return_task_ids": "true"}
        answer = self._json("POST", path, params=params, json=[{"data": data}])
        return {"id": answer["task_ids"][0], "data": data, "annotations": []}

    def _hire(self, email: str) -> int:
        name = email.partition("@")[0]
        return self._json("POST", "/api/users/", json={"email": email, "username": name})["id"]

    def _json(self, method: str, path: str, **arguments: object) -> dict:
        response = self.http.request(method, path, **arguments)
        response.raise_for_status()
        return response.json()


class World:
    """All of it, and the processes that send and pull."""

    def __init__(self, folder: Path, server: Server, rng: np.random.Generator) -> None:
        self.server = server
        self.letters = open_letters(folder)
        self.annotators = Annotators(server, self.letters.task.labeling.result, rng)
        self.ended = Counter[str]()
        """how processes ended"""
        self.stored = dict[str, dict]()
        """every annotation that the ledger ever had, as it was last seen there"""
        self.seconds = dict[str, float]()
        self.fired = Counter[object]()
        """what the network did"""
        self.quiet = list[dict]()
        """what send, pull and reconcile came to when all was quiet"""
        self._folder = folder
        self._num_samples = 0
        self._program = subprocess.Popen(
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def close(self) -> None:
        self._program.stdin.close()
        self._program.wait(30)
        self._program.stdout.close()
        self.annotators.http.close()
        self.letters.ledger.close()

    def run(self, *actions: str, url: str = "", die_at: int | None = None, **more) -> list:
        """Let processes do something, all at once: exit code of each, and what it reported."""
        fixed = {"directory": str(self._folder), "token": self.server.token, "die_at": die_at}
        orders = [
            {**fixed, "url": url or self.server.url, "action": action, **more} for action in actions
        ]
        self._program.stdin.write(json.dumps(orders) + "\n")
        self._program.stdin.flush()
        ended = json.loads(self._program.stdout.readline())
        for action, (code, report) in zip(actions, ended, strict=True):
            self.ended[f"{action} {_ENDS[code]}"] += 1
            assert code != CRASHED, f"{action} crashed, see stderr: {report}"
        return ended

    def do(self, *actions: str) -> list[dict]:
        """Let one process after the other do something that nothing disturbs."""
        results = []
        for action in actions:
            ((code, report),) = self.run(action)
            assert code == DONE, report
            results.append(report)
        return results

    def summary(self) -> str:
        """What happened, in numbers."""
        rows, known = self.rows(), self.annotations()
        facts = {
            "faults": {fault.name: number for fault, number in self.fired.items()},
            "processes": dict(self.ended),
            "server killed and started again": self.server.num_kills,
            "annotators": dict(self.annotators.did),
            "labeling tasks in the ledger": dict(Counter(row.state for row in rows)),
            "labeling tasks there, by project": {p: len(t) for p, t in self.there().items()},
            "annotations in the ledger": len(known),
            "of which deleted": sum(row["deleted_at"] is not None for row in known.values()),
            "when all was quiet": self.quiet,
            "seconds": {name: round(value) for name, value in self.seconds.items()},
        }
        return "".join(f"\n{name}: {value}" for name, value in facts.items())

    def choose(self, number: int, num_annotators: int = 1) -> list[str]:
        """New samples wait to be sent."""
        first = self._num_samples
        self._num_samples += number
        payloads = [b"letter %d" % count for count in range(first, self._num_samples)]
        answer = "abc"[self._num_samples % 3]
        return self.letters.choose(*payloads, answer=answer, num_annotators=num_annotators)

    def ask(self, sample_ids: list[str], purpose: Purpose, num_annotators: int = 1) -> None:
        self.letters.ask(sample_ids, purpose, num_annotators)

    def rows(self) -> list:
        """The outbox with the campaigns' projects."""
        query = (
            select(
                labeling_tasks,
                campaigns.c.external_project,
                campaigns.c.audience,
                campaigns.c.state.label("campaign_state"),
            )
            .outerjoin(campaigns, campaigns.c.id == labeling_tasks.c.campaign)
            .order_by(labeling_tasks.c.seq)
        )
        with self.letters.ledger.read() as connection:
            return list(connection.execute(query))

    def wanted(self) -> list[tuple[Row, int, int]]:
        """Rows of the outbox, how many annotators were wanted in all, and who answered elsewhere."""
        more = (
            select(func.coalesce(func.sum(requests.c.num_annotators), 0))
            .where(
                requests.c.sample_id == labeling_tasks.c.sample_id,
                requests.c.purpose == labeling_tasks.c.purpose,
            )
            .correlate(labeling_tasks)
            .scalar_subquery()
        )
        query = select(labeling_tasks, labeling_tasks.c.num_annotators + more, num_elsewhere())
        with self.letters.ledger.read() as connection:
            return [(row, row[-2], row[-1]) for row in connection.execute(query)]

    def facts(self) -> tuple:
        """All that must not change when nothing happens; times of reading may."""
        outbox = [
            {name: value for name, value in row._mapping.items() if name != "seen_at"}
            for row in self.rows()
        ]
        there = {
            project: [(task["id"], task["data"], task["overlap"]) for task in tasks]
            for project, tasks in self.there().items()
        }
        return outbox, self.annotations(), there

    def annotations(self) -> dict[str, dict]:
        """Every annotation in the ledger, as it stands."""
        with self.letters.ledger.read() as connection:
            rows = {row.id: dict(row._mapping) for row in connection.execute(select(annotations))}
        assert self.stored.keys() <= rows.keys(), "rows of annotations vanished"
        self.stored = rows
        return rows

    def there(self) -> dict[int, list[dict]]:
        """What Label Studio itself has: project -> labeling tasks."""
        projects = self.annotators.projects(self.letters.project.name)
        return {project: self.annotators.tasks(project) for project in projects}

    def by_key(self) -> dict[str, list[dict]]:
        """What Label Studio itself has by key; what annotators made by hand is left out."""
        found = defaultdict[str, list[dict]](list)
        for project, tasks in self.there().items():
            for task in tasks:
                if task["id"] not in self.annotators.foreign:
                    found[str(task["data"].get("key"))].append(task | {"project": project})
        return found

    @staticmethod
    def answer(annotation: dict) -> str | None:
        """What an annotator chose; None is a skip."""
        if annotation["was_cancelled"]:
            return None
        return annotation["result"][0]["value"]["choices"][0]

    @staticmethod
    def number_of(row: dict) -> int:
        """The number that Label Studio gave to an annotation in the ledger."""
        return int(row["id"].split("-")[1])

    @staticmethod
    def answer_of(row: dict) -> str | None:
        """The same of a row in the ledger."""
        return "unusable" if row["refused"] and "unusable" in row["refused"] else row["answer"]

    @contextlib.contextmanager
    def busy_annotators(self) -> Iterator[None]:
        """Annotators work all the time, whatever we do, and whatever the server answers."""
        end = threading.Event()
        thread = threading.Thread(target=self._work, args=(end,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _work(self, end: threading.Event) -> None:
        while not end.is_set():
            try:
                for project in self.annotators.projects(self.letters.project.name)[-2:]:
                    self.annotators.something(project)
            except (httpx.HTTPError, ValueError):
                self.annotators.did["refused by the server"] += 1
            time.sleep(_MOMENT_SECONDS)


_ENDS = {DONE: "done", CRASHED: "crashed", REPORTED: "reported", BUSY: "busy", KILLED: "killed"}
