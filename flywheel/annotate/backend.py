"""The protocol of a labeling backend, and the records that pass through it.

`LabelingBackend` has every request that the annotate stage makes. It is implemented for
Label Studio by `flywheel.annotate.label_studio` and in memory by `flywheel.testing`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from flywheel.errors import RefusedError
from flywheel.records import Json, Media

BACKEND_LOCK = "the labeling backend"
"""name of the lock under which one process at a time writes to the backend"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLabelingTask:
    """A labeling task to create."""

    key: str
    """identifies the sample in its campaign; only one labeling task may have it"""
    sample_id: str
    data: dict[str, Json]
    """values of the config's $names; a medium is its address, as an annotator's browser requests it"""
    result: list[dict[str, Json]]
    """the pre-annotation in Label Studio's result format; empty when blind"""
    priority: float
    """0..1; 1 is labeled first"""
    num_annotators: int
    """number of annotators asked"""
    shown: dict[str, Json]
    """what else annotators see in the data manager: reason, confidence, model; empty when blind"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnedAnnotation:
    """One annotator's annotation in its current state."""

    id: str
    """unique, even if a server is reset and counts from 1 again"""
    annotator: str
    """e-mail; the user number if the account was deleted"""
    result: list[dict[str, Json]]
    skipped: bool
    lead_time_seconds: float | None
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelingTask:
    """A labeling task with all its current annotations."""

    external_id: int
    key: str | None
    """data.key, else data.sample_id; None: it was made by hand"""
    is_finished: bool
    """whether as many annotators as were asked have answered"""
    updated_at: datetime
    annotations: tuple[ReturnedAnnotation, ...]
    data: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class InventoryRow:
    """A labeling task without its annotations, for reconciliation."""

    external_id: int
    key: str | None
    data: dict[str, Json]
    """its current data, which annotators may have edited"""
    updated_at: datetime
    is_begun: bool
    """whether an annotator has annotated, skipped or drafted"""
    is_finished: bool
    num_annotators: int
    """number of annotators asked"""


class LabelingProject(NamedTuple):
    """A project of the labeling server."""

    id: int
    url: str
    """the page that annotators open"""


class ForeignProject(NamedTuple):
    """A project of the labeling server that need not be ours, as it is."""

    title: str
    config: str
    """its labeling config"""


class MediaStore(Protocol):
    """Brings media to where annotators' browsers can load them."""

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Publish media by the names of their files; return name -> address. Idempotent."""


class LabelingBackend(MediaStore, Protocol):
    """What the annotate stage needs of a labeling server.

    A project that was deleted counts as empty.
    """

    def ensure(
        self,
        title: str,
        config: str,
        project_id: int | None,
        num_annotators: int = 1,
        owner: str = "",
    ) -> LabelingProject:
        """Find the project by id, else by title, else create it; bring its config up to date.

        In a new project `num_annotators` is the default for each labeling task. `owner` is the id
        of the flywheel project that it belongs to; without one it is not checked.

        Raises:
            RefusedError: the project belongs to another flywheel project.
        """

    def page(self, project_id: int) -> str:
        """Return the address of the project's page."""

    def exists(self, project_id: int, owner: str = "") -> bool:
        """Return whether the project still exists.

        Raises:
            RefusedError: another flywheel project than `owner` has it: it is another server.
        """

    def look_at(self, project_id: int) -> ForeignProject | None:
        """Return title and config of a project that need not be ours; None if it does not exist."""

    def download(self, address: str) -> bytes | None:
        """Return a file that data of a labeling task name; None if the server does not have it."""

    def push(self, project_id: int, items: Sequence[NewLabelingTask]) -> dict[str, int]:
        """Create the labeling tasks that do not exist yet; return key -> external id of all.

        Existence is decided by the key alone, since external ids may be reused.
        """

    def changed_since(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Yield every labeling task that changed since then, with all its annotations."""

    def fetch(self, project_id: int, external_ids: Collection[int]) -> Iterator[LabelingTask]:
        """Yield these labeling tasks with all their annotations, without deleted ones."""

    def inventory(self, project_id: int) -> Iterator[InventoryRow]:
        """Yield every labeling task of a project, without annotations."""

    def raise_overlap(self, external_id: int, num_annotators: int) -> None:
        """Raise the number of annotators of a labeling task, and reopen it."""

    def reorder(self, project_id: int, priorities: Mapping[int, float]) -> set[int]:
        """Set priorities by external id; return the ids that moved. Begun ones keep their place."""

    def delete(self, project_id: int, external_ids: Collection[int]) -> set[int]:
        """Delete labeling tasks that are not begun; return which of the given ids are gone now."""

    def restore(self, external_id: int, data: Mapping[str, Json]) -> None:
        """Write the data of a labeling task as it was sent, see `task_data`."""

    def register_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Have the server notify an address of every annotation. Idempotent."""


def other_owner(title: str, theirs: str, ours: str) -> RefusedError:
    """The error for a labeling project that belongs to another flywheel project."""
    return RefusedError(
        f"{title!r} in Label Studio belongs to the flywheel project {theirs}, and this one is "
        f"{ours}. Write another [project] name in flywheel.toml if the two have the same; else this is "
        "not the server that has this one's labeling tasks: correct [labeling] url."
    )


def task_data(item: NewLabelingTask) -> dict[str, Json]:
    """Return the data of a labeling task; the names are columns of the data manager."""
    return {**item.data, "sample_id": item.sample_id, "key": item.key, **item.shown}
