"""An in-memory labeling backend in place of Label Studio.

It keeps the promises of `flywheel.annotate.backend.LabelingBackend` that the loop relies on: a push
creates each key once, numbers grow, and every change has a later time. The same laws run on it and
on Label Studio's adapter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flywheel.annotate.backend import (
    ForeignProject,
    InventoryRow,
    LabelingProject,
    LabelingTask,
    NewLabelingTask,
    ReturnedAnnotation,
    other_owner,
    task_data,
)
from flywheel.errors import UnavailableError
from flywheel.records import Json, Media

_START = datetime(2026, 3, 1, tzinfo=UTC)
_OVERLAP = timedelta(seconds=2)


@dataclass
class Kept:
    """One labeling task as the server keeps it."""

    project: int
    data: dict[str, Json]
    num_annotators: int
    priority: float
    updated_at: datetime
    is_finished: bool = False
    has_draft: bool = False
    given: dict[str, ReturnedAnnotation] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """The key that it was sent with; that of its sample in older ones."""
        return self.data.get("key", self.data.get("sample_id"))

    @property
    def is_begun(self) -> bool:
        """Whether an annotator has drafted, answered or skipped."""
        return self.has_draft or bool(self.given)

    @property
    def num_answers(self) -> int:
        """Annotations that are not skips."""
        return sum(not annotation.skipped for annotation in self.given.values())


class MemoryBackend:
    """Implements `LabelingBackend`; the methods from `answer` on stand for annotators and faults."""

    def __init__(self) -> None:
        self.projects: dict[int, str] = {}
        self.configs: dict[int, str] = {}
        self.owners: dict[int, str] = {}
        self.tasks: dict[int, Kept] = {}
        self.items: list[NewLabelingTask] = []
        self.hooks: dict[tuple[int, str], str] = {}
        self.files: dict[str, bytes] = {}
        """address -> file"""
        self.is_down = False
        self.breaks_after: dict[str, BaseException] = {}
        """name of a call -> exception raised once in place of its answer, after its work is done"""
        self._ticks = self._num_projects = 0

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Addresses for media, which are kept in `files`."""
        self._up()
        addresses = {name: f"/{project_id}/{name}" for name in files}
        self.files |= {addresses[name]: media.payload for name, media in files.items()}
        return addresses

    def ensure(
        self,
        title: str,
        config: str,
        project_id: int | None,
        num_annotators: int = 1,  # noqa: ARG002
        owner: str = "",
    ) -> LabelingProject:
        """The project of this id, else the oldest of this title, else a new one."""
        self._up()
        if project_id not in self.projects:
            same = [key for key, name in self.projects.items() if name == title]
            project_id = min(same) if same else self._begin(title)
        if owner and self.owners.setdefault(project_id, owner) != owner:
            raise other_owner(title, self.owners[project_id], owner)
        self.configs[project_id] = config
        self._answered("ensure")
        return LabelingProject(project_id, self.page(project_id))

    def page(self, project_id: int) -> str:
        """The address of a project, where no server answers."""
        return f"http://label-studio/projects/{project_id}/data"

    def exists(self, project_id: int, owner: str = "") -> bool:
        """Whether the project still exists; raises if it is another owner's."""
        self._up()
        if owner and (theirs := self.owners.get(project_id, owner)) != owner:
            raise other_owner(f"project {project_id}", theirs, owner)
        return project_id in self.projects

    def look_at(self, project_id: int) -> ForeignProject | None:
        """Title and config of a project; None if it does not exist."""
        self._up()
        title = self.projects.get(project_id)
        return None if title is None else ForeignProject(title, self.configs.get(project_id, ""))

    def download(self, address: str) -> bytes | None:
        """A file of `files`."""
        self._up()
        return self.files.get(address)

    def push(self, project_id: int, items: Sequence[NewLabelingTask]) -> dict[str, int]:
        """Create the labeling tasks whose keys do not exist yet; key -> number of all."""
        self._up()
        for number, item in enumerate(items):
            if number == len(items) // 2:
                self._answered("half a push")
            if not self._with_key(project_id, item.key):
                self.items.append(item)
                self.put(project_id, task_data(item), item.num_annotators, item.priority)
        self._answered("push")
        return {item.key: self._with_key(project_id, item.key)[0] for item in items}

    def changed_since(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Labeling tasks that changed since then or up to 2 s before; all when `since` is None."""
        self._up()
        start = since - _OVERLAP if since else datetime.min.replace(tzinfo=UTC)
        yield from [
            self._whole(key) for key in self._of(project_id) if self.tasks[key].updated_at >= start
        ]

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        """These labeling tasks, without those that are gone."""
        self._up()
        yield from [self._whole(key) for key in self._of(project_id) if key in external_ids]

    def inventory(self, project_id: int) -> Iterator[InventoryRow]:
        """Every labeling task of a project in brief."""
        self._up()
        for key in self._of(project_id):
            task = self.tasks[key]
            yield InventoryRow(
                external_id=key,
                key=task.key,
                data=dict(task.data),
                updated_at=task.updated_at,
                is_begun=task.is_begun,
                is_finished=task.is_finished,
                num_annotators=task.num_annotators,
            )

    def raise_overlap(self, external_id: int, num_annotators: int) -> None:
        """Set how many annotators one labeling task asks."""
        self._up()
        if external_id in self.tasks:
            self.tasks[external_id].num_annotators = num_annotators
            self._changed(external_id)
        self._answered("raise_overlap")

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        """Set the priorities of the labeling tasks that are not begun; returns their numbers."""
        self._up()
        moved = self._untouched(project_id, priorities)
        for key in moved:
            self.tasks[key].priority = priorities[key]
        return moved

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete the labeling tasks that are not begun; returns which of the given are gone."""
        self._up()
        for key in self._untouched(project_id, external_ids):
            del self.tasks[key]
        self._answered("delete")
        return set(external_ids) - set(self._of(project_id))

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        """Write the data of a labeling task anew."""
        self._up()
        if external_id in self.tasks:
            self.edit(external_id, **dict.fromkeys(self.tasks[external_id].data))
            self.edit(external_id, **data)

    def register_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Remember an address and its secret; nothing is sent there."""
        self._up()
        self.hooks[project_id, url] = secret

    def answer(
        self, sample: str | int, *result: dict[str, Json], by: str = "ann", skip: bool = False
    ) -> None:
        """Store an annotator's answer to a sample, or in a labeling task, in place of their last."""
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
        """Delete an annotator's annotation."""
        key = self.find(sample)
        del self.tasks[key].given[by]
        self._changed(key)

    def edit(self, sample: str | int, **data: Json) -> None:
        """Change the data of a labeling task by hand; None removes a field."""
        key = self.find(sample)
        changed = self.tasks[key].data | data
        self.tasks[key].data = {name: value for name, value in changed.items() if value is not None}
        self.tasks[key].updated_at = self._tick()

    def copy(self, sample: str | int) -> int:
        """Copy a labeling task without its annotations, as importing an export does; its number."""
        task = self.tasks[self.find(sample)]
        return self.put(task.project, dict(task.data))

    def put(
        self, project_id: int, data: dict[str, Json], num_annotators: int = 1, priority: float = 0.0
    ) -> int:
        """Create a labeling task; its number is the one after the highest."""
        key = max(self.tasks, default=100) + 1
        self.tasks[key] = Kept(project_id, data, num_annotators, priority, self._tick())
        return key

    def delete_project(self, project_id: int) -> None:
        """Delete a project with its labeling tasks, as an administrator might."""
        del self.projects[project_id]
        for key in [key for key, task in self.tasks.items() if task.project == project_id]:
            del self.tasks[key]

    def find(self, sample: str | int) -> int:
        """The number of the oldest labeling task of a sample."""
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
            data=dict(task.data),
        )

    def _changed(self, key: int) -> None:
        task = self.tasks[key]
        task.is_finished = task.num_answers >= task.num_annotators
        task.updated_at = self._tick()

    def _tick(self) -> datetime:
        self._ticks += 1
        return _START + timedelta(seconds=self._ticks)

    def _up(self) -> None:
        if self.is_down:
            raise UnavailableError("the labeling server in memory is down; set is_down = False")

    def _answered(self, name: str) -> None:
        if name in self.breaks_after:
            raise self.breaks_after.pop(name)
