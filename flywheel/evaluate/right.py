"""Whether single answers are right, and whether single latencies are fast enough.

The same conditions as in a report, asked of one model outside of an evaluation: when failures
are marked as fixed, and by the canary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.evaluate.abstain import failed
from flywheel.evaluate.book import Rows
from flywheel.evaluate.context import LATENCY
from flywheel.evaluate.measure import Rules
from flywheel.evaluate.scoring import score_entrants
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.model import Model
from flywheel.task import Task


def answered_right(task: Task, model: Model, rows: Rows, rules: Rules) -> list[bool]:
    """Whether the model's answer to each row is no failure; all False when that cannot be told."""
    if not rows.samples:
        return []
    table = score_entrants(task, rows, {"model": model}, {})["model"]
    metric = compile_formula(rules.metric.optimize, rules.directory)
    failures = failed(table, rules.abstain, metric, higher_is_better=rules.metric.higher_is_better)
    if failures is None:
        return [False] * len(rows.samples)
    return [not one for one in failures.tolist()]


def latency_fault(milliseconds: Sequence[float], rules: Rules) -> str:
    """The first latency requirement that these times break; "" when all are kept."""
    scores = {LATENCY: np.array(milliseconds, dtype=np.float64)}
    for text in rules.metric.require:
        condition = compile_condition(text, rules.directory)
        if condition.statistic.columns != {LATENCY}:
            continue
        value = float(condition.statistic(scores, np.ones((1, len(milliseconds))))[0])
        if not condition.met(value):
            return f"{condition.statistic.text} is {value:.1f} ms, the requirement is {text}"
    return ""
