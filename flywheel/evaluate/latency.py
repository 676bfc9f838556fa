"""How long one answer takes, through the code that serves.

A stopwatch is the one thing here that two runs read differently; no other number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.evaluate.book import Part
from flywheel.model import Model
from flywheel.records import Array, Sample

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
