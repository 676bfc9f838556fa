"""The context of a report: which models, when, on which data, and which lines it shows.

It is stored with the book of scores, so that both together give the same report at any time. Here
is also the measurement of latency: it is the only number that differs between two runs, and no
other number depends on it.
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
    """A line of the table for a baseline."""

    name: str
    kind: str
    """scripted, simple ML or human"""
    part: str
    """part of the book with its scores: test, or people/TIER"""
    note: str
    """a remark for the reader; for a baseline that was not measured, the reason"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Everything in a report that is not computed from scores."""

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
    """a remark on the models' lines, for example that training gave nothing new"""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the measured models, the candidate first."""
        digests = {"candidate": self.candidate_digest, "champion": self.champion_digest}
        return tuple(name for name, digest in digests.items() if digest is not None)

    @property
    def judged(self) -> str:
        """The model that the report is about: the candidate, else the champion."""
        return self.models[0] if self.models else "candidate"


LATENCY = "latency_ms"
"""a score that every model has, on the samples of a part of its own in the book"""

_ROUNDS = 3
_SAMPLES = 50
_WARM_UP_CALLS = 5


def latency_part(models: Mapping[str, Model], samples: Sequence[Sample]) -> Part:
    """Latency of each model in milliseconds, for up to 50 samples one at a time, payload to answer.

    The least of three rounds counts, since other load on the machine only ever adds time.
    """
    timed = samples[:_SAMPLES]
    return Part(
        ids=tuple(sample.id for sample in timed),
        weights=np.ones(len(timed)),
        clusters=np.arange(len(timed)),
        scores={name: {LATENCY: _latencies(model, timed)} for name, model in models.items()},
    )


def _latencies(model: Model, samples: Sequence[Sample]) -> Array:
    # First calls pay for lazy initialisation, which serving does not.
    for call in range(_WARM_UP_CALLS if samples else 0):
        model.answer_samples([samples[call % len(samples)]])
    rounds = [[_milliseconds(model, sample) for sample in samples] for _ in range(_ROUNDS)]
    return np.array(rounds).min(axis=0) if samples else np.zeros(0)


def _milliseconds(model: Model, sample: Sample) -> float:
    start = time.perf_counter()
    model.answer_samples([sample])
    return (time.perf_counter() - start) * 1e3
