"""Scores to the lines of a report: estimates for everyone, differences for the two models.

Refuses to know how scores came about and what is decided on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.evaluate.baseline import requirement_entry
from flywheel.evaluate.rows import Rows, ScoreTable
from flywheel.evaluate.scoring import pick_score
from flywheel.evaluate.stats import FEWEST_SAMPLES, estimate_mean, paired_difference
from flywheel.project import Metric
from flywheel.records import Array, Entry, Estimate, SliceComparison
from flywheel.task import Task

GUARD_ALPHA = 0.05
"""chance that the bound of a difference that can only veto fails; slices share it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One set of rows with everyone's scores on it."""

    rows: Rows
    tables: Mapping[str, ScoreTable]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """Turns scores into the lines of a report."""

    task: Task
    metric: Metric
    rng: np.random.Generator
    faults: Mapping[str, str]
    note: str

    def table(
        self, part: Part, models: Iterable[str], agreed: Rows, people: ScoreTable
    ) -> tuple[Entry, ...]:
        """Every line on the test set: models, baselines, annotators and the requirement."""
        requirement = requirement_entry(self.metric)
        required = () if requirement is None else (requirement,)
        return (*self.entries(part, models), self.people(agreed, people), *required)

    def entries(self, part: Part, models: Iterable[str]) -> list[Entry]:
        """One line for each model and each baseline."""
        lines = [self._entry(name, name, part, self.note) for name in models]
        for name, baseline in self.task.baselines.items():
            lines.append(self._entry(name, baseline.kind, part, self.faults.get(name, "")))
        return lines

    def people(self, agreed: Rows, table: ScoreTable) -> Entry:
        """The line of the annotators: each against the consensus of the others."""
        estimate = _within_scores(self._estimate(agreed, table), table.get(self.metric.optimize))
        note = "each annotator against the consensus of the others"
        if estimate is None:
            note = (
                f"{len(agreed.samples)} test samples with two annotations or more, "
                f"{FEWEST_SAMPLES} are needed; raise labeling.annotations_per_sample"
            )
        return Entry(name="annotators", kind="human", metric=estimate, note=note)

    def difference(self, part: Part, tail: float) -> Estimate | None:
        """Candidate minus champion, in the direction that is better."""
        everyone = np.ones(len(part.rows.samples), dtype=bool)
        return self._difference(part, everyone, tail)

    def slices(self, part: Part) -> list[SliceComparison]:
        """The same on each slice; together their lower and upper bounds fail with 5 % each."""
        tail = GUARD_ALPHA / max(len(self.task.slices), 1)
        lines = []
        for name, belongs in self.task.slices.items():
            chosen = np.array([belongs(sample) for sample in part.rows.samples], dtype=bool)
            difference = self._difference(part, chosen, tail)
            number = int(chosen.sum())
            lines.append(SliceComparison(name=name, difference=difference, num_samples=number))
        return lines

    def _entry(self, name: str, kind: str, part: Part, note: str) -> Entry:
        estimate = self._estimate(part.rows, part.tables.get(name, {}))
        if estimate is None and not note:
            note = f"{len(part.rows.samples)} samples, {FEWEST_SAMPLES} are needed"
        return Entry(name=name, kind=kind, metric=estimate, note=note)

    def _estimate(self, rows: Rows, table: ScoreTable) -> Estimate | None:
        if not table:
            return None
        return estimate_mean(rows.scored(pick_score(table, self.metric.optimize)), self.rng)

    def _difference(self, part: Part, chosen: Array, tail: float) -> Estimate | None:
        if not {"candidate", "champion"} <= part.tables.keys():
            return None
        sign = 1.0 if self.metric.higher_is_better else -1.0
        candidate, champion = (
            part.rows.scored(pick_score(part.tables[name], self.metric.optimize)).where(chosen)
            for name in ("candidate", "champion")
        )
        better = paired_difference(candidate, champion, self.rng, tail=tail)
        if better is None or sign > 0:
            return better
        return Estimate(
            value=-better.value, low=-better.high, high=-better.low, num_samples=better.num_samples
        )


def _within_scores(estimate: Estimate | None, scores: Array | None) -> Estimate | None:
    """A mean of shares between 0 and 1 lies between 0 and 1, and so do its bounds."""
    if estimate is None or scores is None or scores.min() < 0 or scores.max() > 1:
        return estimate
    return dataclasses.replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))
