"""A requirement on a statistic. Refuses to know how sure a value is; whoever has an interval does."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.evaluate.statistic import Statistic


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A statistic and the side of a bound on which it must stay."""

    statistic: Statistic
    text: str
    """as a person wrote it"""
    bound: float
    is_upper: bool
    """True: the value must lie below the bound"""
    is_strict: bool
    """True: the bound itself is not allowed"""

    def met(self, value: float) -> bool:
        """Whether a value keeps the bound; NaN never does."""
        if self.is_upper:
            return value < self.bound or (value == self.bound and not self.is_strict)
        return value > self.bound or (value == self.bound and not self.is_strict)
