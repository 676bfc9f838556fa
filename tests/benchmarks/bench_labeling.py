"""Sending to Label Studio and pulling from it, against the best that its own SDK does.

Run it: `python tests/benchmarks/bench_labeling.py [sent] [annotated] [pictures]`.
It starts a Label Studio of its own. Rounds alternate, so that a busy machine slows all alike;
processor seconds, of server and client together, hardly notice. A ratio above 1: we are faster.
"""

# It prints for people.
# ruff: noqa: T201

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import psutil
from label_studio_sdk import LabelStudio
from PIL import Image

from flywheel.annotate.backend import NewLabelingTask
from flywheel.annotate.label_studio.backend import LabelStudioBackend
from flywheel.annotate.label_studio.media import MediaStorage
from flywheel.annotate.label_studio.task_writer import task_payload
from flywheel.records import Media, content_id
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials
from flywheel.stack.supervise import start_all, stop_all

ROUNDS = 3
TASKS_PER_REQUEST = 1000  # with 5,000 the SDK is as fast
FILES_PER_REQUEST = 100
CHANGED = 50
SIDE = 64
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image"><Choice value="a"/><Choice value="b"/></Choices>
</View>"""


@dataclasses.dataclass
class Bench:
    """A running server and two ways to talk to it."""

    url: str
    token: str
    process: psutil.Process
    folder: Path

    def __post_init__(self) -> None:
        self.sdk = LabelStudio(base_url=self.url, api_key=self.token, timeout=600, max_retries=0)
        self.studio = LabelStudioBackend.connect(self.url, self.token)
        headers = {"Authorization": f"Token {self.token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=600)

    def busy(self) -> float:
        """Processor seconds of the server and of us so far."""
        return sum(sum(one.cpu_times()[:2]) for one in (self.process, psutil.Process()))

    def project(self) -> int:
        """A new, empty one."""
        return self.studio.ensure(secrets.token_hex(8), CONFIG, None).id

    def shared(self) -> LabelStudioBackend:
        """A connection that puts pictures into a folder."""
        return LabelStudioBackend.connect(
            self.url, self.token, MediaStorage(way="folder", folder=str(self.folder))
        )


def main() -> None:
    """Measure and print the tables."""
    sizes = dict(enumerate(map(int, sys.argv[1:])))
    sent, annotated, pictures = sizes.get(0, 10_000), sizes.get(1, 5_000), sizes.get(2, 1_000)
    with _server() as bench:
        items = [_item(number) for number in range(sent)]
        _table(bench, f"send {sent:,} without pictures", _sends(bench, items))
        _table(bench, f"send {pictures:,} with pictures", _sends_pictures(bench, pictures))
        project = _annotated(bench, items, annotated)
        _table(
            bench, f"pull {annotated:,} annotated of {sent:,}", _pulls(bench, project, annotated)
        )
        _table(bench, f"pull {CHANGED} changed of {sent:,}", _deltas(bench, project))
        _table(bench, f"look at all {sent:,}", _looks(bench, project, items))


Work = Callable[[], int]
"""does something; how many labeling tasks it was about"""


def _sends(bench: Bench, items: Sequence[NewLabelingTask]) -> dict[str, Work]:
    tasks = [task_payload(item) for item in items]
    return {
        "SDK import_tasks": lambda: _import(bench, bench.project(), tasks),
        "push": lambda: len(bench.studio.push(bench.project(), items)),
    }


def _import(bench: Bench, project: int, tasks: Sequence[dict]) -> int:
    for start in range(0, len(tasks), TASKS_PER_REQUEST):
        part = tasks[start : start + TASKS_PER_REQUEST]
        bench.sdk.projects.import_tasks(id=project, request=part, return_task_ids=True)
    return len(tasks)


def _sends_pictures(bench: Bench, number: int) -> dict[str, Work]:
    pictures = {_item(place).sample_id: _picture(place) for place in range(number)}
    by_sample = {item.sample_id: item for item in map(_item, range(number))}

    def tasks(addresses: dict[str, str]) -> list[dict]:
        return [
            task_payload(dataclasses.replace(by_sample[name], data={"image": address}))
            for name, address in addresses.items()
        ]

    def inline() -> int:
        prefix = "data:image/png;base64,"
        texts = {name: prefix + base64.b64encode(one).decode() for name, one in pictures.items()}
        return _import(bench, bench.project(), tasks(texts))

    def uploaded() -> int:
        project = bench.project()
        return _import(bench, project, tasks(_upload(bench, project, pictures)))

    def ours(studio: LabelStudioBackend) -> int:
        project = bench.project()
        files = {f"{name}.png": Media(one, "image/png") for name, one in pictures.items()}
        addresses = studio.publish(project, files)
        items = [
            dataclasses.replace(by_sample[name], data={"image": addresses[f"{name}.png"]})
            for name in pictures
        ]
        return len(studio.push(project, items))

    return {
        "SDK import_tasks, inline": inline,
        "SDK upload, import_tasks": uploaded,
        "publish by upload, push": lambda: ours(bench.studio),
        "publish by folder, push": lambda: ours(bench.shared()),
    }


def _upload(bench: Bench, project: int, pictures: dict[str, bytes]) -> dict[str, str]:
    """As one does it with the SDK, which has a call for the names only."""
    names, ids = list(pictures), list[int]()
    for start in range(0, len(names), FILES_PER_REQUEST):
        part = names[start : start + FILES_PER_REQUEST]
        files = {f"f{place}": (f"{name}.png", pictures[name]) for place, name in enumerate(part)}
        answer = bench.http.post(
            f"/api/projects/{project}/import", params={"commit_to_project": "false"}, files=files
        )
        ids += answer.raise_for_status().json()["file_upload_ids"]
    files_there = {one.id: one.file for one in bench.sdk.files.list(id=project, all_=True)}
    return {name: f"/data/{files_there[one]}" for name, one in zip(names, ids, strict=True)}


def _annotated(bench: Bench, items: Sequence[NewLabelingTask], number: int) -> int:
    """A project in which people have answered some."""
    project = bench.project()
    given = {"result": _result("b"), "lead_time": 3.0, "ground_truth": False}
    tasks = [task_payload(item) for item in items]
    done = [{**task, "annotations": [given]} for task in tasks[:number]]
    _import(bench, project, done)
    _import(bench, project, tasks[number:])
    return project


def _pulls(bench: Bench, project: int, number: int) -> dict[str, Work]:
    def snapshot() -> int:
        exports = bench.sdk.projects.exports
        options = {"annotated": "only"}
        made = exports.create(id=project, task_filter_options=options)
        while exports.get(id=project, export_pk=made.id).status not in ("completed", "failed"):
            time.sleep(0.05)
        return len(json.loads(b"".join(exports.download(id=project, export_pk=made.id))))

    def finished() -> int:
        chunks = bench.sdk.projects.exports.download_sync(id=project, download_all_tasks=False)
        return len(json.loads(b"".join(chunks)))

    return {
        "SDK exports.as_json": lambda: number * bool(bench.sdk.projects.exports.as_json(project)),
        "SDK exports, annotated": finished,
        "SDK snapshot, annotated": snapshot,
        "pull": lambda: sum(
            bool(one.annotations) for one in bench.studio.changed_since(project, None)
        ),
    }


def _deltas(bench: Bench, project: int) -> dict[str, Work]:
    """What changed is what people answer now, before any round."""
    newest = max(one.updated_at for one in bench.studio.inventory(project))
    ids = [one.external_id for one in bench.studio.inventory(project)][-CHANGED:]
    for number in ids:
        bench.http.post(f"/api/tasks/{number}/annotations/", json={"result": _result("a")})
    since = newest + timedelta(minutes=5, microseconds=1)  # without what is pulled twice
    moment = (newest + timedelta(microseconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    newer = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
    query = json.dumps({"filters": {"conjunction": "and", "items": [{**newer, "value": moment}]}})
    return {
        "SDK tasks.list": lambda: len(
            list(bench.sdk.tasks.list(project=project, query=query, fields="all", page_size=100))
        ),
        "pull": lambda: len(list(bench.studio.changed_since(project, since))),
    }


def _looks(bench: Bench, project: int, items: Sequence[NewLabelingTask]) -> dict[str, Work]:
    return {
        "SDK tasks.list": lambda: len(list(bench.sdk.tasks.list(project=project, page_size=1000))),
        "inventory": lambda: len(list(bench.studio.inventory(project))),
        "push again": lambda: len(bench.studio.push(project, items)),
    }


def _table(bench: Bench, title: str, works: dict[str, Work]) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    counts = dict[str, int]()
    for _ in range(ROUNDS):
        for name, work in works.items():
            start, busy = time.perf_counter(), bench.busy()
            counts[name] = work()
            times[name].append((time.perf_counter() - start, bench.busy() - busy))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    best = [min(row[k] for name, row in medians.items() if name.startswith("SDK")) for k in (0, 1)]
    print(f"\n{title:<36} {'seconds':>8} {'ratio':>6} {'cpu s':>7} {'ratio':>6} {'tasks':>7}")
    for name, (seconds, cpu) in medians.items():
        print(
            f"  {name:<34} {seconds:>8.2f} {best[0] / seconds:>6.2f} {cpu:>7.2f} "
            f"{best[1] / cpu:>6.2f} {counts[name]:>7,}"
        )


def _item(number: int) -> NewLabelingTask:
    name = content_id(b"%d" % number)
    return NewLabelingTask(
        key=content_id(name.encode()),
        sample_id=name,
        data={"image": f"/data/upload/1/{name}.png"},
        result=_result("a"),
        priority=number % 1000 / 1000,
        num_annotators=1,
        shown={"reason": "low confidence 0.70", "confidence": 0.6, "model": "0123456789ab"},
    )


def _result(letter: str) -> list[dict]:
    region = {"id": "r1", "type": "choices", "from_name": "letter", "to_name": "image"}
    return [{**region, "value": {"choices": [letter]}}]


def _picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def _server() -> Iterator[Bench]:
    """A Label Studio that may show a folder of files."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        state, shown = Path(folder, "state"), Path(folder, "files")
        shown.mkdir()
        known = Credentials(
            email="bench@example.com",
            password="password-of-the-benchmark",
            token=secrets.token_hex(20),
            secret_key=secrets.token_hex(25),
        )
        service = catalogue.label_studio(state / "data", url, known)
        files = {
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(shown),
        }
        start_all([dataclasses.replace(service, env=service.env | files)], state, print)
        try:
            (record,) = json.loads((state / "stack.json").read_text())
            process = psutil.Process(record["pid"])
            yield Bench(url=url, token=known.token, process=process, folder=shown / "pictures")
        finally:
            stop_all(state, print)


if __name__ == "__main__":
    main()
