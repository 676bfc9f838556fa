"""How long one answer takes, through the code that serves.

A stopwatch is the one thing here that two runs read differently; no other number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from flywheel.model import Model
from flywheel.records import Sample

_CALLS = 50
_WARM_UP_CALLS = 5


def latency_p95_ms(model: Model, samples: Sequence[Sample]) -> float | None:
    """95th percentile over 50 calls, one sample at a time, bytes to answer; None without samples."""
    if not samples:
        return None
    milliseconds = []
    for call in range(_WARM_UP_CALLS + _CALLS):
        sample = samples[call % len(samples)]
        start = time.perf_counter()
        model.answer_samples([sample])
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(milliseconds[_WARM_UP_CALLS:], 95))
