"""How long one answer takes, through the code that serves.

A stopwatch is the one thing here that two runs read differently; no other number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from flywheel.model import Model
from flywheel.records import Sample

_ROUNDS = 3
_CALLS = 50
_WARM_UP_CALLS = 5


def latency_p95_ms(model: Model, samples: Sequence[Sample]) -> float | None:
    """95th percentile over 50 calls, one sample at a time, bytes to answer; None without samples.

    The least of three rounds counts: whatever else the machine does only ever adds time.
    """
    if not samples:
        return None
    for call in range(_WARM_UP_CALLS):
        model.answer_samples([samples[call % len(samples)]])
    return min(_round(model, samples) for _ in range(_ROUNDS))


def _round(model: Model, samples: Sequence[Sample]) -> float:
    milliseconds = []
    for call in range(_CALLS):
        sample = samples[call % len(samples)]
        start = time.perf_counter()
        model.answer_samples([sample])
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(milliseconds, 95))
