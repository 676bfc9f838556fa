"""Inputs and outputs of training, and the composition of its epochs.

Start data is clean and grows old, and there may be much more of it than of production, where the
model works. So an epoch is composed by sampling: rows from production fill a share of it, however
few they are, and the rest is start data, drawn anew for each epoch. In the same way labels by
annotators fill at least half of production's share, however many outcomes there are.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import overload

import numpy as np
import torch

from flywheel.errors import UserError
from flywheel.ledger.samples import StoredSamples
from flywheel.records import (
    FAILED,
    IMPORTED,
    TRAIN_ONLY,
    WORKED,
    Array,
    Checkpoint,
    Json,
    Sample,
    canonical,
    content_id,
)
from flywheel.settings.learning import Train
from flywheel.trainers.base import TrainingSet

START = "start"
SUBMITTED = "submitted from elsewhere"
"""how the recipe of a model begins that no night has trained"""
_LABELED, _OUTCOME, _START = range(3)
_KINDS = {START: _START, IMPORTED: _START, WORKED: _OUTCOME, FAILED: _OUTCOME}
_LABEL_SHARE = 0.5
_MOST_OFTEN = 16
"""a row is drawn at most so many times as often as one of another kind: a handful of rows would
otherwise be learned by heart"""
LEAST_VALIDATION = 20
"""labels below which a validation loss is mostly noise"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The training rows of one dataset version, and the weights for a warm start."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample; the answer that it does not have, if its origin is failed"""
    origins: Sequence[str] = field(repr=False)
    """origin of each sample: start, imported, probability, targeted, sensor, worked or failed"""
    dataset_id: str
    groups: Sequence[str] = field(default=(), repr=False)
    """group of each sample; () makes each a group of its own"""
    weights: Sequence[float] = field(default=(), repr=False)
    """one for each sample; () is 1 for all. Only those of rows without a label by annotators are
    used: the reliability of sensors or outcomes, in (0, 1]"""
    champion: bytes | None = field(default=None, repr=False)
    """weights of the champion, for a warm start; None trains from scratch"""
    asked: Sequence[Sample] = field(default=(), repr=False)
    """samples whose answers the new model's card shall hold"""

    def __post_init__(self) -> None:
        number = len(self.samples)
        if len(self.answers) != number or len(self.origins) != number:
            raise ValueError(
                f"{number} samples have {len(self.answers)} answers and {len(self.origins)} "
                "origins; pass one answer and one origin for each sample"
            )
        for name, given in (("weights", self.weights), ("groups", self.groups)):
            if given and len(given) != number:
                raise ValueError(
                    f"{number} samples have {len(given)} {name}; pass one for each sample, or none"
                )

    def only(self, rows: Sequence[int]) -> TrainingData:
        """Return the data of these rows."""
        return replace(
            self,
            samples=pick(self.samples, rows),
            answers=[self.answers[row] for row in rows],
            origins=[self.origins[row] for row in rows],
            groups=[self.groups[row] for row in rows] if self.groups else (),
            weights=[self.weights[row] for row in rows] if self.weights else (),
        )

    def as_rows(self) -> TrainingSet:
        """Return the rows as a trainer of one's own gets them."""
        number = len(self.samples)
        is_teacher = [origin in TRAIN_ONLY for origin in self.origins]
        weights = self.weights or [1.0] * number
        return TrainingSet(
            samples=self.samples,
            answers=self.answers,
            weights=[
                weight if alone else 1.0 for weight, alone in zip(weights, is_teacher, strict=True)
            ],
            origins=self.origins,
            groups=self.groups or [sample.id for sample in self.samples],
        )


class FiledSamples(Sequence[Sample]):
    """Samples whose payloads lie in one file, which several processes read when they are asked for."""

    def __init__(self, path: Path, rows: Sequence[tuple[Sample, int, int]]) -> None:
        self._path, self._rows = path, rows

    @classmethod
    def write(cls, path: Path, samples: Iterable[Sample]) -> FiledSamples:
        """Write the payloads, one after the other."""
        rows, place = list[tuple[Sample, int, int]](), 0
        with path.open("wb") as file:
            for sample in samples:
                file.write(sample.payload)
                rows.append((replace(sample, payload=b""), place, len(sample.payload)))
                place += len(sample.payload)
        return cls(path, rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[row] for row in range(len(self))[place]]
        sample, start, number = self._rows[place]
        with self._path.open("rb", buffering=0) as file:
            return replace(sample, payload=os.pread(file.fileno(), number, start))

    def pick(self, places: Iterable[int]) -> FiledSamples:
        """Some of the samples, in the order asked for; nothing is read."""
        return FiledSamples(self._path, [self._rows[place] for place in places])


def pick(samples: Sequence[Sample], rows: Sequence[int]) -> Sequence[Sample]:
    """Return some of the samples; of stored ones no payload is read."""
    if isinstance(samples, (StoredSamples, FiledSamples)):
        return samples.pick(rows)
    return [samples[row] for row in rows]


def kinds_of(data: TrainingData) -> str:
    """Return how many rows there are of each origin."""
    counts = Counter(data.origins)
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The trained weights and the record of how they were made."""

    weights: bytes = field(repr=False)
    """safetensors, or the artifact of a trainer of one's own"""
    card: bytes = field(repr=False)
    """see `flywheel.artifact`"""
    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """The result of the training loop, before it becomes a checkpoint."""

    weights: bytes = field(repr=False)
    """safetensors"""
    losses: tuple[float, ...]
    """mean training loss of each epoch"""
    device: str
    """name of the GPU, or cpu"""
    card: bytes = field(repr=False)
    """of the new model, with its answers to `TrainingData.asked`; see `flywheel.artifact`"""
    recipe: str
    """rows, steps and the choice of the best one, in a sentence"""

    def with_record(
        self,
        settings: Train,
        data: TrainingData,
        *,
        seed: int,
        seconds: float,
        now: datetime,
    ) -> Trained:
        """Return the weights with the record of how they were made."""
        warm = data.champion if settings.shrink > 0 else None
        checkpoint = Checkpoint(
            digest=content_id(self.weights),
            parent_digest=None if warm is None else content_id(warm),
            dataset_id=data.dataset_id,
            seed=seed,
            settings=settings.model_dump(mode="json"),
            device=self.device,
            losses=self.losses,
            recipe=self.recipe,
            train_seconds=seconds,
            card_digest=content_id(self.card),
            created_at=now,
        )
        return Trained(weights=self.weights, card=self.card, checkpoint=checkpoint)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Which rows of a training make its epochs, and which only choose its best step."""

    parts: tuple[tuple[Array, int], ...]
    """row numbers, and how many of them an epoch draws: labels from production, outcomes, start"""
    validation: Array
    """row numbers of the validation part"""
    note: str
    """why there is no validation part; "" if there is one, or none is wanted"""

    @property
    def training(self) -> Array:
        """Row numbers of all that trains; an epoch has as many draws."""
        return np.concatenate([rows for rows, _ in self.parts])

    @property
    def production_share(self) -> float:
        """Part of an epoch that is from production."""
        return sum(number for _, number in self.parts[:2]) / max(1, len(self.training))

    def draw(self, generator: torch.Generator | None) -> torch.Tensor:
        """Return the row numbers (N,) of a new epoch, in random order."""
        rows = torch.cat([_draw_evenly(*part, generator) for part in self.parts])
        return rows[torch.randperm(len(rows), generator=generator)]


def make_plan(data: TrainingData, settings: Train, seed: int) -> Plan:
    """Return the plan of a training: its validation part, and how its epochs are composed.

    The validation part holds whole groups, others in every night, so that no label stays out of
    training. Only labels by annotators and start data are validated on. Without enough of them
    there is no such part, and all rows train for all steps.
    """
    is_held, note = _held_back(data, settings, seed)
    kinds = np.array([_KINDS.get(origin, _LABELED) for origin in data.origins], dtype=int)
    labeled, outcomes, start = (
        np.flatnonzero(~is_held & (kinds == kind)) for kind in (_LABELED, _OUTCOME, _START)
    )
    number = len(labeled) + len(outcomes) + len(start)
    num_production = round(
        number * _share(len(labeled) + len(outcomes), len(start), settings.production_share)
    )
    num_labeled = round(num_production * _share(len(labeled), len(outcomes), _LABEL_SHARE))
    return Plan(
        parts=(
            (labeled, num_labeled),
            (outcomes, num_production - num_labeled),
            (start, number - num_production),
        ),
        validation=np.flatnonzero(is_held & is_labeled(data)),
        note=note,
    )


def _share(number: int, others: int, wanted: float) -> float:
    """Return the part of the draws that `number` rows get beside `others`.

    Formula: max(n / (n + o), min(wanted, m n / (m n + o))) with m = 16: never less than their own
    part, and none is drawn more than m times as often as one of the others.
    """
    if number == 0 or others == 0:
        return float(others == 0)
    most = _MOST_OFTEN * number / (_MOST_OFTEN * number + others)
    return max(number / (number + others), min(wanted, most))


def some_groups(data: TrainingData, share: float, seed: int) -> Array:
    """Return (N,) whether a row is of one of the groups that hold about this share of the rows.

    A hash of seed and group decides, so that the same groups come with the same seed whatever
    else there is.
    """
    groups = data.groups or [sample.id for sample in data.samples]
    chosen = {name: _place(seed, name) < share for name in set(groups)}
    return np.array([chosen[name] for name in groups], dtype=bool)


def is_labeled(data: TrainingData) -> Array:
    """Return (N,) whether a row has a label by annotators or is start data."""
    return np.array([origin not in TRAIN_ONLY for origin in data.origins], dtype=bool)


def _held_back(data: TrainingData, settings: Train, seed: int) -> tuple[Array, str]:
    """Return (N,) whether a row is held back for validation, and why none is."""
    none = np.zeros(len(data.samples), dtype=bool)
    if settings.validation_share == 0:
        return none, ""
    is_held = some_groups(data, settings.validation_share, seed)
    number = int((is_held & is_labeled(data)).sum())
    if number < LEAST_VALIDATION:
        return none, f"{number} labels to validate on are fewer than {LEAST_VALIDATION}"
    if not _can_teach(data.only(np.flatnonzero(~is_held).tolist())):
        return none, "without the validation part there would be fewer than 2 answers to learn"
    return is_held, ""


def _place(seed: int, group: str) -> float:
    """Return a number in 0..1 that a hash of seed and group fixes."""
    return int(hashlib.sha256(f"{seed} {group}".encode()).hexdigest()[:8], 16) / 2**32


def _draw_evenly(rows: Array, number: int, generator: torch.Generator | None) -> torch.Tensor:
    """Return `number` of the rows, each as often as any other, give or take one."""
    if number == 0:
        return torch.empty(0, dtype=torch.long)
    passes = math.ceil(number / len(rows))
    order = [torch.randperm(len(rows), generator=generator) for _ in range(passes)]
    return torch.from_numpy(rows)[torch.cat(order)[:number]]


def check_learnable(data: TrainingData) -> None:
    """Raise an error for data from which nothing can be learned.

    Raises:
        UserError: there are fewer than two rows with an answer, or all have the same answer.
    """
    answers = _taught(data)
    if len(answers) < 2:
        raise UserError(
            f"there are {len(answers)} training rows and at least 2 are needed; "
            "add start_data to the task, or label more samples"
        )
    if not _can_teach(data):
        raise UserError(
            f"all {len(answers)} training rows have the answer {answers[0]!r} and at least "
            "2 different answers are needed; label samples of other classes too"
        )


def _taught(data: TrainingData) -> list[Json]:
    """Return the answers that rows give; failed rows only say which answer is wrong."""
    pairs = zip(data.answers, data.origins, strict=True)
    return [answer for answer, origin in pairs if origin != FAILED]


def _can_teach(data: TrainingData) -> bool:
    return len({canonical(answer) for answer in _taught(data)}) >= 2
