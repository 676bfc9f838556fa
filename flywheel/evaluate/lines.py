"""Turns scores into the lines of a report: estimates for all entrants, differences for the models.

Every number draws from its own stream of random numbers, so that adding a line changes no other.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np

from flywheel.evaluate.book import LATENCY, Book, Context, Part
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.evaluate.stats import FEWEST_SAMPLES, Measured, estimate, paired_difference
from flywheel.metrics.compiled import Statistic, needed
from flywheel.metrics.names import check_scores
from flywheel.records import Entry, Estimate, TierSlice

GUARD_ALPHA = 0.05
"""error probability of a bound of a difference that can only veto; slices share it"""
LATENCY_PART = "latency"

_TAIL = 0.025
_DIGITS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """Turns the scores of a book into numbers with intervals."""

    book: Book
    context: Context

    def value(self, statistic: Statistic, part: str, entrant: str) -> Estimate | None:
        """The value of a statistic for an entrant on a part, with a 95 % interval.

        None when the part lacks the entrant, or has too few samples.

        Raises:
            SettingsError: the statistic names a score that the task does not give.
        """
        measured = self._measured(statistic, part, entrant)
        if measured is None:
            return None
        rng = self._rng("value", statistic.text, part, entrant)
        return _rounded(estimate(statistic, measured, rng, tail=_TAIL))

    def gain(
        self, statistic: Statistic, part: str, *, higher_is_better: bool, tail: float = GUARD_ALPHA
    ) -> Estimate | None:
        """Candidate minus champion on a part; positive is better."""
        return self._gain(statistic, self.book.get(part), tail, higher_is_better=higher_is_better)

    def slice_gain(
        self, statistic: Statistic, name: str, *, higher_is_better: bool
    ) -> Estimate | None:
        """Candidate minus champion on a slice; all slices share the error probability of 5 % per side."""
        tail = GUARD_ALPHA / max(len(self.context.slices), 1)
        return self._gain(statistic, self.slice_part(name), tail, higher_is_better=higher_is_better)

    def slice_value(self, statistic: Statistic, name: str, entrant: str) -> Estimate | None:
        """The value of a statistic for an entrant on a slice of the test set, with a 95 % interval."""
        part = self.slice_part(name)
        if part is None or entrant not in part.scores:
            return None
        measured = measured_of(part, entrant, statistic)
        return _rounded(estimate(statistic, measured, self._rng("slice", name, entrant)))

    def slice_part(self, name: str) -> Part | None:
        """The rows of a slice of the test set; None when there is no test set."""
        part = self.book.get("test")
        return None if part is None or not part.ids else part.where(part.marks[f"slice/{name}"])

    def tier_slice(self, statistic: Statistic, tier: str, part: str, name: str) -> TierSlice | None:
        """The human baseline of a tier on a slice; None when the book does not mark the slice."""
        rows = self.book.get(part)
        if rows is None or f"slice/{name}" not in rows.marks:
            return None
        rows = rows.where(rows.marks[f"slice/{name}"])
        known = None
        if not _lacks(rows, tier, statistic):
            rng = self._rng("tier", tier, name)
            known = _rounded(estimate(statistic, measured_of(rows, tier, statistic), rng))
        samples = {row.partition("/")[0] for row in rows.ids}  # a sample may have several rows
        return TierSlice(tier=tier, name=name, metric=known, num_samples=len(samples))

    def entry(self, statistic: Statistic, name: str, kind: str, part: str, note: str) -> Entry:
        """One line of a table; without a number, its note says why."""
        known = self.value(statistic, part, name)
        if known is None and not note:
            rows = self.book.get(part)
            number = 0 if rows is None else len(rows.ids)
            note = f"{number} samples, {FEWEST_SAMPLES} are needed"
            if statistic.columns & {CONFIDENCE, LATENCY} and name not in self.context.models:
                note = "only models have a confidence and a latency"
            elif number >= FEWEST_SAMPLES:
                note = f"{statistic.text} is not defined on these {number} samples"
        return Entry(name=name, kind=kind, metric=known, note=note)

    def part_of(self, statistic: Statistic, part: str = "test") -> str:
        """The part that a statistic is measured on: latency has a part of its own."""
        return LATENCY_PART if statistic.columns == {LATENCY} else part

    def _gain(
        self, statistic: Statistic, part: Part | None, tail: float, *, higher_is_better: bool
    ) -> Estimate | None:
        if part is None or not {"candidate", "champion"} <= part.scores.keys():
            return None
        candidate, champion = (
            measured_of(part, name, statistic) for name in ("candidate", "champion")
        )
        rng = self._rng("gain", statistic.text, *part.ids[:1], str(len(part.ids)))
        known = _rounded(paired_difference(statistic, candidate, champion, rng, tail=tail))
        return known if known is None or higher_is_better else _negative(known)

    def _measured(self, statistic: Statistic, part: str, entrant: str) -> Measured | None:
        rows = self.book.get(part)
        if rows is None or not rows.ids or entrant not in rows.scores:
            return None
        return None if _lacks(rows, entrant, statistic) else measured_of(rows, entrant, statistic)

    def _rng(self, *names: str) -> np.random.Generator:
        # crc32, unlike hash(), is the same in every process.
        number = zlib.crc32("|".join(names).encode())
        return np.random.default_rng([self.context.seed, self.context.night, number])


def _lacks(part: Part, entrant: str, statistic: Statistic) -> bool:
    """Whether a statistic needs a confidence or latency, which only models have."""
    missing = statistic.columns - part.scores[entrant].keys()
    return bool(missing) and missing <= {CONFIDENCE, LATENCY}


def measured_of(part: Part, entrant: str, statistic: Statistic) -> Measured:
    """What a statistic needs of an entrant on a part."""
    table = part.scores[entrant]
    check_scores(statistic, sorted(table))
    peers = [other for name, other in part.scores.items() if name != entrant]
    return Measured(
        ids=part.ids,
        scores=needed(statistic, table),
        weights=part.weights,
        clusters=part.clusters,
        peers=tuple(peers) if statistic.has_functions else (),
    )


def _negative(known: Estimate) -> Estimate:
    return dataclasses.replace(known, value=-known.value, low=-known.high, high=-known.low)


def _rounded(known: Estimate | None) -> Estimate | None:
    """The estimate rounded to ten digits, so that sums in another order give the same bytes."""
    if known is None:
        return None
    value, low, high = (
        float(f"{number:.{_DIGITS}g}") for number in (known.value, known.low, known.high)
    )
    return dataclasses.replace(known, value=value, low=low, high=high)
