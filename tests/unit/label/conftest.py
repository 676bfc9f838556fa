"""A Label Studio in memory: small, but what is sent there stays, and each push looks first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from flywheel.errors import UnavailableError
from flywheel.label import PullResult, SendResult, pull, send
from flywheel.label.exchange import Item, LabelingTask, ReturnedAnnotation, StudioProject

PROJECT = StudioProject(7, "http://label-studio/projects/7/data")


class SmallStudio:
    """One project; `answer`, `skip` and `remove` are what people do there."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.tasks: dict[int, LabelingTask] = {}
        self.is_down = False
        self.loses_answers = False
        self._ticks = 0

    def ensure_project(self, title: str, config: str, annotations_per_sample: int) -> StudioProject:
        self._up()
        self.asked_for = annotations_per_sample
        return PROJECT

    def push(self, project_id: int, items: Sequence[Item]) -> dict[str, int]:
        self._up()
        there = self.find(project_id, [item.sample_id for item in items])
        for item in items:
            if item.sample_id not in there:
                self.items.append(item)
                self.put(item.sample_id)
        if self.loses_answers:
            raise UnavailableError("the answer got lost")
        return self.find(project_id, [item.sample_id for item in items])

    def find(self, project_id: int, sample_ids: Collection[str]) -> dict[str, int]:
        self._up()
        known = {task.sample_id: key for key, task in self.tasks.items()}
        return {key: known[key] for key in sample_ids if key in known}

    def pull(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        self._up()
        start = since - timedelta(seconds=2) if since else datetime.min.replace(tzinfo=UTC)
        yield from [task for task in self.tasks.values() if task.updated_at >= start]

    def put(self, sample_id: str | None) -> int:
        key = max(self.tasks, default=100) + 1
        self.tasks[key] = LabelingTask(
            external_id=key,
            sample_id=sample_id,
            is_finished=False,
            updated_at=self._tick(),
            annotations=(),
        )
        return key

    def answer(self, sample_id: str | None, *result: object, by: str = "ann", skip=False) -> None:
        """What a person says now; what they said before is replaced."""
        key = next(key for key, task in self.tasks.items() if task.sample_id == sample_id)
        annotation = ReturnedAnnotation(
            id=f"{key}-{by}",
            annotator=by,
            result=list(result),
            skipped=skip,
            lead_time_seconds=3.0,
            updated_at=self._tick(),
        )
        others = [one for one in self.tasks[key].annotations if one.annotator != by]
        self._replace(key, (*others, annotation))

    def remove(self, sample_id: str, by: str) -> None:
        """A person's annotation is deleted."""
        (key,) = self.find(7, [sample_id]).values()
        self._replace(key, [one for one in self.tasks[key].annotations if one.annotator != by])

    def _replace(self, key: int, annotations: Sequence[ReturnedAnnotation]) -> None:
        given = [one for one in annotations if not one.skipped]
        self.tasks[key] = replace(
            self.tasks[key],
            annotations=tuple(annotations),
            is_finished=len(given) >= self.asked_for,
            updated_at=self._tick(),
        )

    def _tick(self) -> datetime:
        self._ticks += 1
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self._ticks)

    def _up(self) -> None:
        if self.is_down:
            raise UnavailableError("nobody answers")


@pytest.fixture
def studio() -> SmallStudio:
    return SmallStudio()


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def send_now(letters, studio, now) -> Callable[[], SendResult]:
    """Send what waits."""
    return partial(send, letters.ledger, letters.blobs, studio, letters.task, letters.project, now)


@pytest.fixture
def pull_now(letters, studio, now) -> Callable[[], PullResult]:
    """Bring back what is new."""
    return partial(pull, letters.ledger, letters.blobs, studio, letters.task, letters.project, now)


@pytest.fixture
def says(letters, studio) -> Callable[..., None]:
    """A person answers a sample with a letter."""

    def say(sample_id: str, letter: str, by: str = "ann") -> None:
        studio.answer(sample_id, *letters.task.labeling.result(letter, None), by=by)

    return say
