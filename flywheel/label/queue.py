"""Where a sample stands in the queue: the hardest first, and none waits for ever.

Priorities that a new model changes are written to the labeling tasks that nobody has begun; a
sample that no longer matters is withdrawn. What makes a sample hard is not known here.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

_NIGHT = timedelta(days=1)


def place(priority: float, since: datetime, now: datetime, ageing_nights: float) -> float:
    """The priority of a sample that has waited: half the way to 1 after every `ageing_nights`.

    Formula: 1 - (1 - priority) / 2^(waited / ageing_nights), in 0..1. Samples that came on one
    day keep their order, so a draw by chance stays one by chance.
    """
    waited = max((now - since) / _NIGHT, 0.0)
    left = 1.0 - min(max(priority, 0.0), 1.0)
    return 1.0 - left * math.pow(0.5, waited / ageing_nights)
