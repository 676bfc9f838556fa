"""What passes between the ledger and Label Studio, as plain frozen records.

`Bridge` is all that sending and pulling ask of a labeling server; `flywheel.label.studio`
fulfils it. Nothing here knows HTTP or the SDK.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from flywheel.records import Json, Share


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One sample on its way to people."""

    sample_id: str
    picture: bytes = field(repr=False)
    """PNG"""
    result: list[dict[str, Json]]
    """the pre-annotation, in Label Studio's result format"""
    model_version: str
    """first 12 characters of the digest of the model that predicted"""
    confidence: float
    """0..1, the model's"""
    priority: float
    """0..1, 1 is labeled first"""
    reason: str
    share: Share
    inclusion_probability: float | None
    """in (0, 1]; None for a targeted sample"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnedAnnotation:
    """One person's annotation, as Label Studio holds it now."""

    id: str
    """never given twice, even by a server that starts again from nothing"""
    annotator: str
    result: list[dict[str, Json]]
    skipped: bool
    lead_time_seconds: float | None
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelingTask:
    """One labeling task with all the annotations that it has now."""

    external_id: int
    sample_id: str | None
    """None: someone put it there by hand"""
    is_finished: bool
    """as many people as were asked have answered"""
    updated_at: datetime
    annotations: tuple[ReturnedAnnotation, ...]


class StudioProject(NamedTuple):
    """A project in Label Studio."""

    id: int
    url: str
    """the page that people open"""


class Bridge(Protocol):
    """What sending and pulling ask of a labeling server."""

    def ensure_project(self, title: str, config: str, annotations_per_sample: int) -> StudioProject:
        """The project of this title, created or brought up to date."""

    def push(self, project_id: int, items: Sequence[Item]) -> dict[str, int]:
        """Create the labeling tasks that are not there yet; sample id -> external id of all."""

    def find(self, project_id: int, sample_ids: Collection[str]) -> dict[str, int]:
        """sample id -> external id of those samples that have a labeling task."""

    def pull(self, project_id: int, since: datetime | None) -> Iterator[LabelingTask]:
        """Every labeling task that changed since then, with all its annotations."""
