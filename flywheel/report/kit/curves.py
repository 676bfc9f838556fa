"""The curve of what levels of a metric cost, as places of a drawing.

`curve.html` draws it; what is out of reach has no place on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flywheel.decide.curve import Outlook

_AROUND = (-0.1, 1.2)
"""how far the axis of levels goes, where 0 is the first level and 1 the last"""
_TICKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CostCurve:
    """What each level of a metric costs."""

    levels: str
    """name of the metric"""
    unit: str
    """of the costs"""
    points: tuple[tuple[float, Outlook], ...]
    """level and cost, the cheapest first; infinity: out of reach"""
    required: float | None
    """level that the product needs; None: there is none, or none that the axis reaches"""

    @property
    def reached(self) -> list[tuple[float, Outlook]]:
        """Points whose cost is known, though its interval may have no end."""
        return [(level, cost) for level, cost in self.points if math.isfinite(cost.middle)]

    @property
    def band(self) -> list[tuple[float, float]]:
        """Return the corners of the 80 % band, in levels and costs; it is cut at the top."""
        known = [(level, cost) for level, cost in self.points if math.isfinite(cost.low)]
        lows = [(level, cost.low) for level, cost in known]
        return lows + [(level, cost.high) for level, cost in reversed(known)]

    @property
    def ticks(self) -> list[float]:
        """Return round costs from 0 to above all that is drawn."""
        known = [one for _, cost in self.points for one in (cost.low, cost.middle)]
        step = max((one for one in known if math.isfinite(one)), default=0.0) / _TICKS
        unit = 10 ** math.floor(math.log10(step)) if step > 0 else 1.0
        return [unit * max(math.ceil(step / unit), 1) * tick for tick in range(_TICKS + 1)]

    def right(self, level: float) -> float:
        """Return the place of a level from left to right, 0..1."""
        first, last = self.points[0][0], self.points[-1][0]
        low, high = _AROUND
        return ((level - first) / (last - first) - low) / (high - low)

    def height(self, cost: float) -> float:
        """Return the place of a cost from bottom to top, 0..1."""
        return min(cost / self.ticks[-1], 1.0)


def cost_curve(
    levels: str,
    unit: str,
    points: Sequence[tuple[float, Outlook]],
    required: float | None,
) -> CostCurve | None:
    """Return the curve; None where no level is in reach, or all are the same."""
    if len({level for level, _ in points}) < len(points):
        return None
    curve = CostCurve(levels=levels, unit=unit, points=tuple(points), required=None)
    if not curve.reached:
        return None
    is_drawn = required is not None and 0 <= curve.right(required) <= 1
    return replace(curve, required=required) if is_drawn else curve
