"""What a report says beside what is measured: who, when, on what, and which lines it shows.

Stored with the book of scores, so that the two together give the same report at any time.

How long one answer takes, through the code that serves.

A stopwatch is the one thing here that two runs read differently; no other number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.evaluate.book import Part
from flywheel.model import Model
from flywheel.records import Array, Challenge, Entry, ProductionEstimate, Reuse, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineLine:
    """A baseline's place in the table."""

    name: str
    kind: str
    """scripted, simple ML or human"""
    part: str
    """where its scores are: test, or people/TIER"""
    note: str
    """what a reader should know; for one that was not measured, why"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Everything of a report that is not computed from scores."""

    night: int
    seed: int
    candidate_digest: str | None
    champion_digest: str | None
    dataset_id: str
    test_set_digest: str
    challenge: Challenge | None
    no_challenge: str
    """why there is none"""
    reuse: Reuse
    production: ProductionEstimate | None
    baselines: tuple[BaselineLine, ...]
    published: tuple[Entry, ...]
    slices: tuple[str, ...]
    note: str
    """of the models' lines: that training gave nothing new, for one"""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are measured."""
        digests = {"candidate": self.candidate_digest, "champion": self.champion_digest}
        return tuple(name for name, digest in digests.items() if digest is not None)

    @property
    def judged(self) -> str:
        """Whose strengths and weaknesses the report is about: the candidate, else the champion."""
        return self.models[0] if self.models else "candidate"


LATENCY = "latency_ms"
"""a score that every model has, on samples of its own part of the book"""

_ROUNDS = 3
_SAMPLES = 50
_WARM_UP_CALLS = 5


def latency_part(models: Mapping[str, Model], samples: Sequence[Sample]) -> Part:
    """Milliseconds of each model for up to 50 samples, one at a time, bytes to answer.

    The least of three rounds counts: whatever else the machine does only ever adds time.
    """
    timed = samples[:_SAMPLES]
    return Part(
        ids=tuple(sample.id for sample in timed),
        weights=np.ones(len(timed)),
        clusters=np.arange(len(timed)),
        scores={name: {LATENCY: _latencies(model, timed)} for name, model in models.items()},
    )


def _latencies(model: Model, samples: Sequence[Sample]) -> Array:
    for call in range(_WARM_UP_CALLS if samples else 0):
        model.answer_samples([samples[call % len(samples)]])
    rounds = [[_milliseconds(model, sample) for sample in samples] for _ in range(_ROUNDS)]
    return np.array(rounds).min(axis=0) if samples else np.zeros(0)


def _milliseconds(model: Model, sample: Sample) -> float:
    start = time.perf_counter()
    model.answer_samples([sample])
    return (time.perf_counter() - start) * 1e3
