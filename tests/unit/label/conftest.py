"""A Label Studio in memory: small, but what is sent there stays, and each push looks first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Row, select

from flywheel.errors import UnavailableError
from flywheel.label import (
    LabelResult,
    PullResult,
    Sender,
    SendResult,
    SweepResult,
    make_labels,
    pull,
    send,
    sweep,
)
from flywheel.label.exchange import (
    Glimpse,
    Item,
    LabelingTask,
    ReturnedAnnotation,
    StudioProject,
)
from flywheel.label.shapes import task_data
from flywheel.ledger.payloads import move_payloads
from flywheel.ledger.tables import annotations
from flywheel.records import Json

START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Kept:
    """A labeling task as the server has it."""

    project: int
    data: dict[str, Json]
    people: int
    priority: float
    updated_at: datetime
    is_finished: bool = False
    has_draft: bool = False
    given: dict[str, ReturnedAnnotation] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        return self.data.get("key", self.data.get("sample_id"))

    @property
    def is_begun(self) -> bool:
        return self.has_draft or bool(self.given)

    @property
    def num_answers(self) -> int:
        return sum(not one.skipped for one in self.given.values())


class SmallStudio:
    """Fulfils `Bridge`; from `answer` on comes what people do there, and what goes wrong."""

    def __init__(self) -> None:
        self.projects: dict[int, str] = {}
        self.configs: dict[int, str] = {}
        self.tasks: dict[int, Kept] = {}
        self.items: list[Item] = []
        self.hooks: dict[tuple[int, str], str] = {}
        self.is_down = False
        self.breaks_after: dict[str, BaseException] = {}
        """name of a call -> what comes instead of its answer, once; its work is done all the same"""
        self._ticks = self._num_projects = 0

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        self._up()
        return {name: f"/{project_id}/{name}.png" for name in pictures}

    def ensure_project(
        self, title: str, config: str, project_id: int | None, people: int = 1
    ) -> StudioProject:
        self._up()
        if project_id not in self.projects:
            same = [key for key, name in self.projects.items() if name == title]
            project_id = min(same) if same else self._begin(title)
        self.configs[project_id] = config
        self._answered("ensure_project")
        return StudioProject(project_id, self.page(project_id))

    def page(self, project_id: int) -> str:
        return f"http://label-studio/projects/{project_id}/data"

    def is_there(self, project_id: int) -> bool:
        self._up()
        return project_id in self.projects

    def push(self, project_id: int, items: Sequence[Item]) -> dict[str, int]:
        self._up()
        for number, item in enumerate(items):
            if number == len(items) // 2:
                self._answered("half a push")
            if not self._with_key(project_id, item.key):
                self.items.append(item)
                self.put(project_id, task_data(item), item.people, item.priority)
        self._answered("push")
        return {item.key: self._with_key(project_id, item.key)[0] for item in items}

    def pull(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        self._up()
        start = since - timedelta(seconds=2) if since else datetime.min.replace(tzinfo=UTC)
        yield from [
            self._whole(key) for key in self._of(project_id) if self.tasks[key].updated_at >= start
        ]

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        self._up()
        yield from [self._whole(key) for key in self._of(project_id) if key in external_ids]

    def glimpse(self, project_id: int) -> Iterator[Glimpse]:
        self._up()
        for key in self._of(project_id):
            task = self.tasks[key]
            yield Glimpse(
                external_id=key,
                key=task.key,
                data=dict(task.data),
                updated_at=task.updated_at,
                is_begun=task.is_begun,
                is_finished=task.is_finished,
                people=task.people,
            )

    def ask_more(self, external_id: int, people: int) -> None:
        self._up()
        if external_id in self.tasks:
            self.tasks[external_id].people = people
            self._changed(external_id)
        self._answered("ask_more")

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        self._up()
        moved = self._untouched(project_id, priorities)
        for key in moved:
            self.tasks[key].priority = priorities[key]
        return moved

    def withdraw(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        self._up()
        for key in self._untouched(project_id, external_ids):
            del self.tasks[key]
        self._answered("withdraw")
        return set(external_ids) - set(self._of(project_id))

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        self._up()
        if external_id in self.tasks:
            self.edit(external_id, **dict.fromkeys(self.tasks[external_id].data))
            self.edit(external_id, **data)

    def listen(self, project_id: int, url: str, secret: str) -> None:
        self._up()
        self.hooks[project_id, url] = secret

    def answer(self, sample: str | int, *result: object, by: str = "ann", skip=False) -> None:
        """What a person says now of a sample, or in a labeling task; it replaces what they said."""
        key = self.find(sample)
        known = self.tasks[key].given.get(by)
        at = self._tick()
        self.tasks[key].given[by] = ReturnedAnnotation(
            id=known.id if known else f"{self.tasks[key].project}-{key}-{at:%H%M%S}",
            annotator=by,
            result=list(result),
            skipped=skip,
            lead_time_seconds=3.0,
            updated_at=at,
        )
        self._changed(key)

    def remove(self, sample: str | int, by: str) -> None:
        """A person's annotation is deleted."""
        key = self.find(sample)
        del self.tasks[key].given[by]
        self._changed(key)

    def edit(self, sample: str | int, **data: Json) -> None:
        """Somebody writes other data by hand; None takes a field away."""
        key = self.find(sample)
        changed = self.tasks[key].data | data
        self.tasks[key].data = {name: value for name, value in changed.items() if value is not None}
        self.tasks[key].updated_at = self._tick()

    def copy(self, sample: str | int) -> int:
        """Somebody imports an export: the same data once more, without annotations."""
        task = self.tasks[self.find(sample)]
        return self.put(task.project, dict(task.data))

    def put(
        self, project_id: int, data: dict[str, Json], people: int = 1, priority: float = 0.0
    ) -> int:
        """A new labeling task, whoever makes it; it gets the number after the highest."""
        key = max(self.tasks, default=100) + 1
        self.tasks[key] = Kept(project_id, data, people, priority, self._tick())
        return key

    def delete_project(self, project_id: int) -> None:
        del self.projects[project_id]
        for key in [key for key, task in self.tasks.items() if task.project == project_id]:
            del self.tasks[key]

    def find(self, sample: str | int) -> int:
        """The oldest labeling task of a sample."""
        if isinstance(sample, int):
            return sample
        return min(key for key, task in self.tasks.items() if task.data["sample_id"] == sample)

    def _begin(self, title: str) -> int:
        self._num_projects += 1
        self.projects[self._num_projects] = title
        return self._num_projects

    def _of(self, project_id: int) -> list[int]:
        return sorted(key for key, task in self.tasks.items() if task.project == project_id)

    def _with_key(self, project_id: int, key: str) -> list[int]:
        return [number for number in self._of(project_id) if self.tasks[number].key == key]

    def _untouched(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        return {
            key
            for key in self._of(project_id)
            if key in external_ids and not self.tasks[key].is_begun
        }

    def _whole(self, key: int) -> LabelingTask:
        task = self.tasks[key]
        return LabelingTask(
            external_id=key,
            key=task.key,
            is_finished=task.is_finished,
            updated_at=task.updated_at,
            annotations=tuple(task.given.values()),
        )

    def _changed(self, key: int) -> None:
        task = self.tasks[key]
        task.is_finished = task.num_answers >= task.people
        task.updated_at = self._tick()

    def _tick(self) -> datetime:
        self._ticks += 1
        return START + timedelta(seconds=self._ticks)

    def _up(self) -> None:
        if self.is_down:
            raise UnavailableError("nobody answers")

    def _answered(self, name: str) -> None:
        if name in self.breaks_after:
            raise self.breaks_after.pop(name)


@pytest.fixture
def studio() -> SmallStudio:
    return SmallStudio()


@pytest.fixture(scope="session")
def make_studio() -> Callable[[], SmallStudio]:
    """A server for laws that need one for each example."""
    return SmallStudio


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def send_now(letters, studio, now) -> Callable[..., SendResult]:
    """Send what waits."""

    def run(**more: object) -> SendResult:
        sender = Sender(
            ledger=letters.ledger,
            blobs=letters.blobs,
            studio=studio,
            task=letters.task,
            project=letters.project,
        )
        return send(replace(sender, **more), now)

    return run


@pytest.fixture
def pull_now(letters, studio, now) -> Callable[[], PullResult]:
    """Bring back what is new."""
    return lambda: pull(letters.ledger, letters.blobs, studio, letters.task, now)


@pytest.fixture
def sweep_now(letters, studio, now) -> Callable[[], SweepResult]:
    """Hold the ledger against all that is there."""
    return lambda: sweep(letters.ledger, letters.blobs, studio, letters.task, now)


@pytest.fixture
def label_now(letters, pull_now, now) -> Callable[[], LabelResult]:
    """Pull, then label."""

    def run() -> LabelResult:
        pull_now()
        return make_labels(letters.ledger, letters.task, letters.project, now, 4)

    return run


@pytest.fixture
def says(letters, studio) -> Callable[..., None]:
    """A person answers a sample, or in a labeling task, with a letter."""

    def say(sample: str | int, letter: str, by: str = "ann") -> None:
        studio.answer(sample, *letters.task.labeling.result(letter, None), by=by)

    return say


@pytest.fixture
def sample_id(letters, send_now) -> str:
    """A sample that is with people."""
    (sample_id,) = letters.choose(b"x1")
    send_now()
    return sample_id


@pytest.fixture
def stored(letters) -> Callable[[], dict[str, Row]]:
    """All annotations in the ledger, by annotator."""

    def read() -> dict[str, Row]:
        with letters.ledger.read() as connection:
            return {row.annotator: row for row in connection.execute(select(annotations))}

    return read


@pytest.fixture
def lose(letters, tmp_path) -> Callable[[str], None]:
    """Lose a sample's payload."""

    def run(sample_id: str) -> None:
        move_payloads(letters.ledger, letters.blobs)
        (tmp_path / "blobs" / sample_id[:2] / sample_id).unlink()

    return run


@pytest.fixture
def silence(letters, monkeypatch) -> Callable[[], Callable[[], None]]:
    """Make the blobs answer nothing, as an object store does that is away; the other ends it."""

    def silent(*_args: object) -> bytes:
        raise UnavailableError("the blob store does not answer")

    def run() -> Callable[[], None]:
        move_payloads(letters.ledger, letters.blobs)
        for name in ("get", "get_all"):
            monkeypatch.setattr(f"flywheel.blobs.Blobs.{name}", silent)
        return monkeypatch.undo

    return run
